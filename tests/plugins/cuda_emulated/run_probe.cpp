// run_probe NAME healthy|broken: one probe under a sanitizer, whose report is the result. Without words: every probe,
// healthy.
#include <cstdio>
#include <cstring>

extern "C" {
int nx_probe(const char* name, int broken, const float* x, float* y);
void* nx_emu_alloc(size_t bytes);
int nx_emu_free(void* pointer);
const char* nx_probe_name(int index);
}

namespace {

int run(const char* name, bool broken) {
  constexpr int n = 256;
  auto* x = static_cast<float*>(nx_emu_alloc(n * sizeof(float)));
  auto* y = static_cast<float*>(nx_emu_alloc(n * sizeof(float)));
  for (int i = 0; i < n; ++i) x[i] = float(i * 7 % 31);
  int status = nx_probe(name, broken, x, y);
  int touched = nx_emu_free(x) | nx_emu_free(y);
  if (status || touched) std::fprintf(stderr, "%s: status %d, guards touched %d\n", name, status, touched);
  return status || touched;
}

}  // namespace

int main(int count, char** words) {
  if (count == 3) return run(words[1], !std::strcmp(words[2], "broken"));
  int bad = 0;
  for (int i = 0; const char* name = nx_probe_name(i); ++i) bad |= run(name, false);
  return bad;
}
