#include "cuda/strategy.h"

#include <algorithm>

namespace nx {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

int64_t power_of_two(int64_t at_least) {
  int64_t power = 1;
  while (power < at_least) power *= 2;
  return power;
}

// Whether W elements at a time fit the layout, were all pointers aligned.
bool fits(const NxNorm& norm, int64_t w) {
  const int64_t v = lanes(norm.layout, norm.channels);
  return v < w ? w % v == 0 && norm.space % (w / v) == 0 : v % w == 0;
}

// The widest vector of at most `alignment` bytes that the kernels come in and the layout allows.
int vector_bytes(const NxNorm& norm, int64_t alignment) {
  const int64_t size = element_size(norm.type);
  for (const int64_t bytes : {int64_t(16), size == 1 ? int64_t(4) : int64_t(8)})
    if (bytes <= alignment && (size != 4 || bytes != 8) && fits(norm, bytes / size)) return int(bytes);
  return int(size);
}

Geometry with_tile(Geometry g, int64_t tile) {
  g.tile = int32_t(tile);
  g.tiles = ceil_div(g.columns, tile);
  return g;
}

Geometry geometry_of(const NxNorm& norm, int64_t w) {
  Geometry g = {};
  g.x_stride = norm.x_stride ? norm.x_stride : sample_elements(norm);
  g.y_stride = norm.y_stride ? norm.y_stride : sample_elements(norm);
  g.space = norm.space;
  g.channels = norm.channels;
  g.v = lanes(norm.layout, norm.channels);
  g.held = int32_t(std::min(g.v, w));
  g.side = g.v / g.held;
  g.columns = ceil_div(g.channels, g.v) * g.side;
  g.rows = g.space / (w / g.held);
  g.step = g.v * (w / g.held);
  g.inverse_rows = 1. / double(g.rows);
  while ((g.held << g.shift) < w) ++g.shift;
  g.samples = norm.instance ? 1 : norm.batch;
  g.groups = groups(norm);
  return with_tile(g, std::min(kTuning.widest_tile, power_of_two(g.side)));
}

// Samples that have statistics of their own.
int64_t separate_samples(const NxNorm& norm) { return norm.instance ? norm.batch : 1; }

// Parts that a tile of columns is cut into, by the widest vectors that the layout allows: the same for all pointers.
int64_t parts_of(const NxNorm& norm, const Geometry& g, int64_t part_bytes) {
  const int64_t bytes = g.rows * g.samples * g.tile * 16, blocks = g.tiles * separate_samples(norm);
  const int64_t parts = std::min(ceil_div(bytes, part_bytes), ceil_div(kTuning.blocks, blocks));
  return std::clamp<int64_t>(parts, 1, kTuning.most_parts);
}

Chunking chunking_of(const NxNorm& norm, const Geometry& g, int64_t parts) {
  const Chunks chunks = chunk_layout(reduced_elements(norm), norm.chunks);
  Chunking c = {chunks.length, chunks.count, chunks.length, 1, 1, false};
  if (chunks.count >= parts) {
    c.per_part = ceil_div(chunks.count, parts);
    c.by_rows = ceil_div(c.length, int64_t(1) << g.shift) <= kTuning.row_chunk && c.per_part > 4;
  } else {
    c.piece = ceil_div(c.length, ceil_div(parts, chunks.count));
    c.pieces = ceil_div(c.length, c.piece);
  }
  return c;
}

// Hands out pieces of the workspace; with a null base it only counts.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}
  template <class T>
  void take(T*& pointer, int64_t count) {
    pointer = reinterpret_cast<T*>(base_ + used_);
    used_ += (size_t(count) * sizeof(T) + 255) / 256 * 256;
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

void take_floats(const NxNorm& norm, int64_t slots, Arena& arena, FloatArgs& args) {
  const int64_t groups = args.g.groups, partials = groups * args.g.parts;
  Partials& p = args.partial;
  arena.take(p.sum, partials);
  if (norm.kind == NX_LINF || norm.kind == NX_RANGE) {
    arena.take(p.high, partials);
    arena.take(p.low, partials);
  } else if (norm.kind == NX_TOPK) {
    Selection& s = args.selection;
    arena.take(s.high, groups * slots);
    arena.take(s.low, groups * slots);
    arena.take(s.threshold, groups);
    arena.take(s.found, groups);
    arena.take(s.candidate, groups * s.capacity);
  } else {
    arena.take(p.drift, partials);
    arena.take(p.spread, partials);
  }
  arena.take(args.mean, groups);
  arena.take(args.line, groups);
}

void take_integers(const NxNorm& norm, int64_t histograms, Arena& arena, IntArgs& args) {
  const int64_t groups = args.g.groups, partials = groups * args.g.parts;
  Tallies& t = args.tally;
  if (norm.kind == NX_TOPK) {
    if (histograms > 1) arena.take(t.bins, groups * histograms * 256);
  } else {
    arena.take(t.sum, partials);
  }
  if (norm.kind == NX_LINF || norm.kind == NX_RANGE) {
    arena.take(t.high, partials);
    arena.take(t.low, partials);
  }
  if (norm.kind == NX_L1 || norm.kind == NX_L2) arena.take(t.size, partials);
  if (norm.kind == NX_L1) {
    arena.take(t.above, partials);
    arena.take(t.level, partials);
  }
  arena.take(args.mean, groups);
  arena.take(args.line, groups);
}

int64_t stretches(const Geometry& g, int threads) { return int64_t(g.parts) * (threads / 32) * (stretch(g) / g.tile); }

// Threads of a block: no more than it has vectors, no fewer than it has channels.
int threads_of(const Geometry& g) {
  const int64_t vectors = ceil_div(g.rows * g.samples, g.parts) * g.tile;
  const int64_t least = std::max<int64_t>(64, int64_t(g.tile) * g.held);
  return int(std::clamp<int64_t>(power_of_two(vectors), least, kThreads));
}

// Turns a strategy for floats into one for int8: same tiles and parts, integers instead of floats.
void use_integers(const NxNorm& norm, const Geometry& widest, Arena& arena, Strategy& strategy) {
  const FloatArgs& like = strategy.args;
  IntArgs& args = strategy.int_args;
  args.g = args.single = like.g;
  args.n = reduced_elements(norm);
  args.k = norm.k;
  args.factor = float(like.factor);
  args.epsilon = norm.epsilon;
  args.kind = norm.kind;
  args.slices = like.slices;
  args.chunking = like.chunking;

  const Geometry column = with_tile(widest, 1);
  args.single = with_tile(args.single, 1);
  args.single.parts = int32_t(parts_of(norm, column, kTuning.histogram_bytes));
  args.single.part_rows = ceil_div(args.single.rows * args.single.samples, args.single.parts);
  strategy.histogram_blocks = args.single.tiles * separate_samples(norm) * args.single.parts;
  take_integers(norm, args.single.parts, arena, args);
}

// A tile of columns spread over `ranks` blocks, kept in shared memory.
struct OnChip {
  int64_t part_rows;  // rows of a block
  int64_t bytes;      // of its shared memory
  int threads;        // of it
};

OnChip on_chip_of(const Geometry& g, int64_t vector_bytes, int64_t ranks) {
  OnChip chip;
  chip.part_rows = ceil_div(g.rows * g.samples, ranks);
  const int64_t least = std::max<int64_t>(64, int64_t(g.tile) * g.held);
  const int64_t threads = power_of_two(ceil_div(chip.part_rows * g.tile, kTuning.onchip_vectors));
  chip.threads = int(std::clamp<int64_t>(threads, least, kOnChipThreads));
  const int64_t rows_at_once = chip.threads / g.tile;
  chip.bytes = ceil_div(chip.part_rows, rows_at_once) * chip.threads * vector_bytes;
  return chip;
}

// Keeps x in shared memory where it fits: in the widest tile, on enough blocks for half of the multiprocessors unless
// the tiles are small anyway. Norms of floats in one channel's tiles wait for memory: they take two blocks on a
// multiprocessor if possible, so that one computes while the other reads. The others wait for their blocks: they take
// the fewest. Tiles of many channels that leave no room for a second block are no faster than the phases.
void keep_on_chip(const NxNorm& norm, const Device& device, Strategy& strategy) {
  const Geometry g = strategy.args.g;
  bool one = g.tile * g.held == 1;
  // Kernels that hold one channel at a time.
  const bool alone = norm.kind == NX_TOPK || norm.kind == NX_RANGE || norm.type == NX_INT8;
  if (!one && (alone || strategy.vector_bytes != 16)) return;
  if (norm.kind == NX_RANGE && strategy.args.chunking.count > kHeldChunks) return;

  const auto takes = [&](int64_t tile, int64_t ranks, int64_t resident) {
    Geometry own = with_tile(g, tile);
    const OnChip chip = on_chip_of(own, strategy.vector_bytes, ranks);
    const int64_t room = device.shared_memory / resident - (one ? kTuning.single_static : kTuning.many_static);
    const int64_t blocks = own.tiles * separate_samples(norm) * ranks;
    const bool busy = 2 * blocks >= device.multiprocessors || chip.bytes <= kTuning.small_tile;
    if (chip.bytes > room || !busy) return false;
    strategy.path = Path::kOnChip;
    strategy.ranks = int(ranks);
    strategy.threads = chip.threads;
    strategy.shared_bytes = size_t(chip.bytes);
    strategy.blocks = blocks;
    own.parts = int32_t(ranks);
    own.part_rows = chip.part_rows;
    strategy.args.g = strategy.int_args.g = own;
    return true;
  };
  const int64_t most = device.compute_capability >= 90 ? kTuning.most_ranks : 1;
  const bool memory_bound = one && norm.type != NX_INT8 && norm.kind != NX_TOPK;
  for (int64_t tile = g.tile; tile >= std::min<int64_t>(g.tile, kTuning.least_tile); tile /= 2) {
    if (memory_bound)
      for (int64_t ranks = 1; ranks <= most; ranks *= 2)
        if (takes(tile, ranks, 2)) return;
    for (int64_t ranks = 1; ranks <= most; ranks *= 2)
      if (takes(tile, ranks, 2) || (one && takes(tile, ranks, 1))) return;
  }
}

}  // namespace

int64_t alignment_of(const NxNorm& norm, const void* x, const void* y) {
  uintptr_t all = reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y) | 16;
  if (norm.batch > 1) {
    const int64_t sample = sample_elements(norm), size = element_size(norm.type);
    all |= uintptr_t((norm.x_stride ? norm.x_stride : sample) * size);
    all |= uintptr_t((norm.y_stride ? norm.y_stride : sample) * size);
  }
  return int64_t(all & -all);
}

Strategy strategy_of(const NxNorm& norm, int64_t alignment, const Device& device, void* workspace) {
  Strategy strategy = {};
  const int64_t size = element_size(norm.type);
  Geometry widest = geometry_of(norm, vector_bytes(norm, 16) / size);
  int64_t parts = parts_of(norm, widest, kTuning.part_bytes);

  strategy.vector_bytes = vector_bytes(norm, alignment);
  FloatArgs& args = strategy.args;
  args.g = geometry_of(norm, strategy.vector_bytes / size);
  args.n = double(reduced_elements(norm));
  args.factor = factor(norm);
  args.epsilon = norm.epsilon;
  args.kind = norm.kind;
  if (norm.kind == NX_RANGE) {
    args.chunking = chunking_of(norm, widest, parts);
    parts = args.chunking.pieces > 1 ? args.chunking.count * args.chunking.pieces
                                     : ceil_div(args.chunking.count, args.chunking.per_part);
  }
  args.g.parts = widest.parts = int32_t(parts);
  args.g.part_rows = ceil_div(args.g.rows * args.g.samples, parts);
  strategy.threads = threads_of(args.g);
  strategy.blocks = args.g.tiles * separate_samples(norm) * parts;
  args.slices = int32_t(std::min<int64_t>(32, power_of_two(parts)));
  strategy.merging_blocks = ceil_div(args.g.groups, kThreads / args.slices);

  Selection& s = args.selection;
  s.k = norm.k;
  s.slots = stretches(args.g, strategy.threads);
  s.capacity = std::min(reduced_elements(norm),
                        std::clamp(power_of_two(kTuning.candidates_per_k * std::min<int64_t>(norm.k, 1 << 20)),
                                   kTuning.least_candidates, kTuning.most_candidates));
  Arena arena(workspace);
  if (norm.type == NX_INT8)
    use_integers(norm, widest, arena, strategy);
  else
    take_floats(norm, stretches(widest, kThreads), arena, args);
  strategy.workspace = arena.used();
  keep_on_chip(norm, device, strategy);
  return strategy;
}

}  // namespace nx
