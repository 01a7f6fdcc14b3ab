// Shapes, inputs, and how far a result may be from the reference.
#include "checks.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "reference.h"

namespace {

const char* const kKinds[] = {"l1", "linf", "topk", "range", "l2"};
const char* const kTypes[] = {"float32", "float16", "bfloat16", "int8", "float64"};

// Float32 roundings that an element of y may have gone through, in units of |y - bias| + |bias| + |scale|: the last is
// what an error of the mean comes out as. float64: of float64, whose sums are rounded as well.
constexpr double kRoundings = 6, kDoubleRoundings = 64;

// The number of a name in a table; -1 where it is none of them.
template <size_t count>
int number_of(const char* const (&names)[count], const std::string& name) {
  for (size_t i = 0; i < count; ++i)
    if (name == names[i]) return int(i);
  return -1;
}

size_t element_bytes(int32_t type) { return type == NX_FLOAT64 ? 8 : type == NX_FLOAT32 ? 4 : type == NX_INT8 ? 1 : 2; }

template <class To, class From>
To bits(From from) {
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// Stores a value that the type holds exactly.
void store(double value, int32_t type, unsigned char* at) {
  const auto narrow = float(value);
  const auto word = bits<uint32_t>(narrow);
  const auto half = uint16_t((word >> 16 & 0x8000) | (value == 0 ? 0 : (word >> 13 & 0x3ffff) - (112 << 10)));
  const auto brain = uint16_t(word >> 16);
  const auto byte = int8_t(value);
  switch (type) {
    case NX_FLOAT64: std::memcpy(at, &value, 8); break;
    case NX_FLOAT32: std::memcpy(at, &narrow, 4); break;
    case NX_FLOAT16: std::memcpy(at, &half, 2); break;
    case NX_BFLOAT16: std::memcpy(at, &brain, 2); break;
    default: std::memcpy(at, &byte, 1);
  }
}

double load(int32_t type, const unsigned char* at) {
  uint16_t half;
  float narrow;
  double value;
  int8_t byte;
  switch (type) {
    case NX_FLOAT64: std::memcpy(&value, at, 8); return value;
    case NX_FLOAT32: std::memcpy(&narrow, at, 4); return double(narrow);
    case NX_BFLOAT16: std::memcpy(&half, at, 2); return double(bits<float>(uint32_t(half) << 16));
    case NX_FLOAT16: {
      std::memcpy(&half, at, 2);
      const int exponent = half >> 10 & 31, fraction = half & 1023;
      const double size = exponent == 31 ? (fraction ? NAN : INFINITY)
                          : exponent     ? std::ldexp(1024 + fraction, exponent - 25)
                                         : std::ldexp(fraction, -24);
      return half >> 15 ? -size : size;
    }
    default: std::memcpy(&byte, at, 1); return double(byte);
  }
}

// v of NxLayout's address formula.
int64_t lanes_of(const NxNorm& norm) {
  switch (norm.layout) {
    case NX_CHW2: return 2;
    case NX_CHW4: return 4;
    case NX_CHW32: return 32;
    case NX_HWC: return norm.channels;
    case NX_HWC8: return (norm.channels + 7) / 8 * 8;
    case NX_HWC16: return (norm.channels + 15) / 16 * 16;
    default: return 1;
  }
}

// Where element i of (N, C, space) lies in a packed tensor of the norm's layout.
int64_t address(const NxNorm& norm, int64_t i) {
  const int64_t v = lanes_of(norm), blocks = (norm.channels + v - 1) / v;
  const int64_t p = i % norm.space, c = i / norm.space % norm.channels, n = i / norm.space / norm.channels;
  return ((n * blocks + c / v) * norm.space + p) * v + c % v;
}

// Pseudo-random integers in [0, below), the same in every run.
class Dice {
 public:
  int64_t roll(int64_t below) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return int64_t((state_ >> 33) % uint64_t(below));
  }

 private:
  uint64_t state_ = 12345;
};

double allowed_error(int32_t type, double y, float scale, float bias) {
  if (type == NX_INT8) return 0;
  const double size = std::fabs(y - double(bias)) + std::fabs(double(bias)) + std::fabs(double(scale));
  if (type == NX_FLOAT64) return kDoubleRoundings * std::ldexp(size, -53);
  const double computed = kRoundings * std::ldexp(size, -24);
  const double stored = type == NX_FLOAT16    ? std::ldexp(std::fabs(y), -11) + std::ldexp(1., -25)
                        : type == NX_BFLOAT16 ? std::ldexp(std::fabs(y), -8)
                                              : 0;
  return computed + stored;
}

// One norm: computed, compared, its padding looked at. Says what is wrong; true where nothing is.
bool check(const Backend& backend, const NxNorm& norm) {
  const int64_t elements = norm.batch * norm.channels * norm.space;
  const auto stored = size_t(nx_elements(&norm));
  const size_t size = element_bytes(norm.type), wide = norm.type == NX_FLOAT64 ? 8 : 4;
  const size_t channels = size_t(norm.channels), room = backend.workspace(&norm);
  auto* const x = static_cast<unsigned char*>(backend.allocate(stored * size));
  auto* const y = static_cast<unsigned char*>(backend.allocate(stored * size));
  auto* const scales = static_cast<unsigned char*>(backend.allocate(channels * wide));
  auto* const biases = static_cast<unsigned char*>(backend.allocate(channels * wide));
  void* const workspace = backend.allocate(room);

  // Values that every type holds: sixteenths from -5 to 11, or bytes about -30.
  Dice dice;
  std::vector<double> values;
  std::vector<float> scale, bias;
  std::memset(x, norm.type == NX_INT8 ? 113 : 0xff, stored * size);  // a lane of padding that is read makes NaN
  for (int64_t i = 0; i < elements; ++i) {
    const int64_t bell = dice.roll(86) + dice.roll(86) + dice.roll(86);  // 0 to 255
    values.push_back(norm.type == NX_INT8 ? double(std::clamp<int64_t>(bell - 158, -128, 127))
                                          : double(bell - 79) / 16);
    store(values.back(), norm.type, x + size_t(address(norm, i)) * size);
  }
  for (size_t c = 0; c < channels; ++c) {
    const double unit = norm.type == NX_INT8 ? 16 : 1;
    scale.push_back(float(unit * double(1 + dice.roll(8)) / 4 * (dice.roll(2) ? 1 : -1)));
    bias.push_back(float(unit * double(dice.roll(33) - 16) / 16));
    store(double(scale.back()), wide == 8 ? NX_FLOAT64 : NX_FLOAT32, scales + c * wide);
    store(double(bias.back()), wide == 8 ? NX_FLOAT64 : NX_FLOAT32, biases + c * wide);
  }

  std::string wrong = backend.compute(norm, x, scales, biases, y, room ? workspace : nullptr, room);
  const auto right = (norm.type == NX_INT8 ? reference::bytes : reference::floats)(norm, values, scale, bias);
  std::vector<bool> padding(stored, true);
  for (int64_t i = 0; i < elements && wrong.empty(); ++i) {
    const auto at = size_t(address(norm, i)), c = size_t(i / norm.space % norm.channels);
    const double got = load(norm.type, y + at * size), exact = right[size_t(i)];
    padding[at] = false;
    if (!(std::fabs(got - exact) <= allowed_error(norm.type, exact, scale[c], bias[c])))
      wrong = "element " + std::to_string(i) + " is " + std::to_string(got) + " instead of " + std::to_string(exact);
  }
  for (size_t at = 0; at < stored && wrong.empty(); ++at)
    for (size_t byte = 0; padding[at] && byte < size; ++byte)
      if (y[at * size + byte]) wrong = "padding is not zero";
  for (void* each : {static_cast<void*>(x), static_cast<void*>(y), static_cast<void*>(scales),
                     static_cast<void*>(biases), workspace})
    if (!backend.release(each)) wrong += " written beside a buffer";
  if (!wrong.empty())
    std::fprintf(stderr, "%s %s layout %d instance %d (%lld, %lld, %lld) k %lld chunks %lld: %s\n", kKinds[norm.kind],
                 kTypes[norm.type], norm.layout, norm.instance, (long long)norm.batch, (long long)norm.channels,
                 (long long)norm.space, (long long)norm.k, (long long)norm.chunks, wrong.c_str());
  return wrong.empty();
}

struct Shape {
  int64_t batch;     // N
  int64_t channels;  // C
  int64_t space;     // product of the spatial sizes
};

// One position, less than a vector, vectors and a rest, many channels, more than one block of a statistic.
const Shape kShapes[] = {{3, 3, 1}, {1, 5, 7}, {2, 17, 49}, {2, 40, 16}, {3, 2, 2500}, {2, 1, 40000}};
const Shape kSmallShapes[] = {{3, 3, 1}, {2, 9, 20}, {2, 2, 300}};

}  // namespace

int check_norms(const Backend& backend, int count, char** words) {
  const int kind = count >= 3 ? number_of(kKinds, words[1]) : -1, type = count >= 3 ? number_of(kTypes, words[2]) : -1;
  const std::string size = count == 4 ? words[3] : "full";
  if (kind < 0 || type < 0 || count > 4 || (size != "full" && size != "small" && size != "tiny")) {
    std::fprintf(stderr, "usage: %s l1|linf|topk|range|l2 float32|float16|bfloat16|int8|float64 [small|tiny]\n",
                 words[0]);
    return 2;
  }
  if (std::find(backend.types.begin(), backend.types.end(), words[2]) == backend.types.end()) return 2;
  int checked = 0, wrong = 0;
  std::vector<Shape> shapes(std::begin(kShapes), std::end(kShapes));
  if (size == "small") shapes.assign(std::begin(kSmallShapes), std::end(kSmallShapes));
  std::vector<NxLayout> layouts = backend.layouts;
  if (size == "tiny") {
    shapes = {{2, 8, 20}};
    const auto last = std::remove_if(layouts.begin(), layouts.end(),
                                     [](NxLayout layout) { return layout != NX_LINEAR && layout != NX_HWC8; });
    layouts.erase(last, layouts.end());
  }
  for (const Shape& shape : shapes)
    for (const NxLayout layout : layouts)
      for (const int instance : {0, 1}) {
        NxNorm norm = {};
        norm.kind = kind;
        norm.type = type;
        norm.layout = layout;
        norm.instance = instance;
        norm.batch = shape.batch;
        norm.channels = shape.channels;
        norm.space = shape.space;
        norm.epsilon = 1.f / 1024;
        const int64_t n = shape.space * (instance ? 1 : shape.batch);
        // Few of many, and as many as there may be.
        for (const int64_t amount : {std::min<int64_t>(n, 10), n}) {
          norm.k = amount;
          norm.chunks = amount;
          ++checked;
          wrong += !check(backend, norm);
          if (size == "tiny" || (kind != NX_TOPK && kind != NX_RANGE)) break;
        }
      }
  std::printf("%d norms, %d wrong\n", checked, wrong);
  return wrong != 0 || checked == 0;
}
