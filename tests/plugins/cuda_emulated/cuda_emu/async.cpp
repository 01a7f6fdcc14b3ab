#include "async.h"

#include "sanitizers.h"

namespace cuda_emu {

void copy_issued(void* to, const void* from, size_t bytes) {
  Unwatched scope;
  current->copies.push_back({to, from, bytes});
}

void copies_committed() {
  Unwatched scope;
  current->groups.push_back(current->copies.size());
}

bool next_landing(int groups, Copy* copy) {
  Thread& me = *current;
  if (me.groups.size() <= size_t(groups)) return false;
  size_t landed = me.groups[me.groups.size() - 1 - size_t(groups)];
  if (me.copied >= landed) {
    if (groups == 0 && landed == me.copies.size()) {  // nothing on its way: start over
      me.copies.clear();
      me.groups.clear();
      me.copied = 0;
    }
    return false;
  }
  *copy = me.copies[me.copied++];
  return true;
}

bool copies_pending(const Thread& thread) { return thread.copied < thread.copies.size(); }

}  // namespace cuda_emu
