// A claim that does not hold ends the program with the place and the words.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

[[noreturn]] inline void fail(const std::string& words, const char* file, int line) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, words.c_str());
  std::exit(3);
}

#define CLAIM(condition, words)                          \
  do {                                                   \
    if (!(condition)) fail((words), __FILE__, __LINE__); \
  } while (0)
