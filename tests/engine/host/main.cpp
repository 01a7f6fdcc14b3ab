// plugin_host LIBRARY CASES     every case of the file, from creation to y
// plugin_host LIBRARY formats   types and formats that every operator takes, as TYPE:FORMAT
// plugin_host LIBRARY refusals  what it must not accept
// plugin_host LIBRARY workspace whether what is promised for a profile is enough for its every shape
#include <fstream>
#include <iostream>
#include <string>

#include "check.h"
#include "library.h"
#include "refusals.h"
#include "stages.h"
#include "workspace.h"

// The emulated GPU keeps its shared memory for the next launch.
extern "C" const char* __lsan_default_suppressions() { return "leak:cuda_emu::\n"; }

int main(int count, char** words) {
  if (count != 3) return 2;
  Library library(words[1]);
  std::string what = words[2];
  if (what == "refusals") {
    try_refusals(library);
    return 0;
  }
  if (what == "workspace") {
    try_workspaces(library);
    return 0;
  }
  if (what == "formats") {
    for (auto* creator : library.creators())
      for (int32_t rank : {2, 3, 4, 5}) std::cout << negotiated(library, creator->getPluginName(), rank) << '\n';
    return 0;
  }
  std::ifstream file(what);
  int cases = 0;
  for (std::string line; std::getline(file, line); ++cases) {
    std::cout << line << std::endl;  // the last line printed is the case that ended the program
    Case c;
    CLAIM(read_case(line, c), "the line is a case");
    live(library, c);
  }
  std::cerr << cases << " cases\n";
  return cases == 0;
}
