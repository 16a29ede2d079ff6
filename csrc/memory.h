// SPDX-License-Identifier: MIT
// Memory of a call. Large blocks outlive it, up to a limit: the system would take them back and give the next call pages
// that it clears first, which can cost as much as a third of the drawing.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

namespace softras::SOFTRAS_ISA {

constexpr size_t kAlign = 64;
constexpr size_t kLarge = 128 << 10, kMostKept = 64 << 20;  // bytes: of one block at least, of those kept together at most

#if defined(_WIN32)
inline void* allocate(size_t bytes) { return _aligned_malloc(bytes, kAlign); }
inline void release(void* p) { _aligned_free(p); }
#else
inline void* allocate(size_t bytes) {
  void* p;
  return posix_memalign(&p, kAlign, bytes) == 0 ? p : nullptr;
}
inline void release(void* p) { free(p); }
#endif

struct Block {
  void* data;
  size_t bytes;
};

// The blocks that no call uses at the moment.
struct Spare {
  static constexpr int kMost = 64;
  Block blocks[kMost];
  int count;
  size_t bytes;  // of all
  bool locked;

  // False where others hold it for long: in a process forked while they did, for ever. Then one does without.
  bool lock() {
    for (int tries = 0; tries < 1000; tries++)
      if (!__atomic_exchange_n(&locked, true, __ATOMIC_ACQUIRE)) return true;
    return false;
  }
  void unlock() { __atomic_store_n(&locked, false, __ATOMIC_RELEASE); }

  // The smallest that has so many bytes. Where none has, the largest goes, so that those of other sizes give way.
  Block take(size_t least) {
    if (least < kLarge || !lock()) return {};
    Block *best = nullptr, *largest = nullptr;
    for (Block* b = blocks; b < blocks + count; b++) {
      if (b->bytes >= least && (!best || b->bytes < best->bytes)) best = b;
      if (!largest || b->bytes > largest->bytes) largest = b;
    }
    Block* out = best ? best : largest;
    const Block taken = out ? *out : Block{};
    if (out) *out = blocks[--count], bytes -= taken.bytes;
    unlock();
    if (best) return taken;
    release(taken.data);
    return {};
  }

  // False: it has no room.
  bool keep(const Block& b) {
    if (b.bytes < kLarge || !lock()) return false;
    const bool room = count < kMost && bytes + b.bytes <= kMostKept;
    if (room) blocks[count++] = b, bytes += b.bytes;
    unlock();
    return room;
  }
};
inline Spare spare;

// Growable memory without initialisation.
template <class X>
struct Buffer {
  X* data = nullptr;
  ~Buffer() { clear(); }
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  bool reserve(int64_t n) {
    const size_t least = (size_t)n * sizeof(X);
    if (least <= bytes) return true;
    clear();
    const Block kept = spare.take(least);
    data = (X*)(kept.data ? kept.data : allocate(least));
    bytes = kept.data ? kept.bytes : data ? least : 0;
    return data != nullptr;
  }
  X& operator[](int64_t i) const { return data[i]; }

 private:
  size_t bytes = 0;
  void clear() {
    if (!spare.keep({data, bytes})) release(data);
    data = nullptr, bytes = 0;
  }
};

}  // namespace softras::SOFTRAS_ISA
