// SPDX-License-Identifier: MIT
// Memory for the arrays of a call. Large blocks are kept from one call to the next, up to a limit: otherwise the system
// would take them back and give the next call pages that it has to clear first, which can take up to a third of the time
// of drawing.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

namespace softras::SOFTRAS_ISA {

constexpr size_t kAlign = 64;            // bytes: every block begins at a multiple of this, which suits SIMD vectors
constexpr size_t kLarge = 128 << 10;     // bytes: only blocks of at least this size are kept
constexpr size_t kMostKept = 64 << 20;   // bytes: the kept blocks together are not larger than this

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

// Sets n items to zero. Where there are none, `data` may be null, which memset does not allow.
template <class T>
inline void zero(T* data, int64_t n) {
  if (n > 0) memset((void*)data, 0, n * sizeof(T));
}

struct Block {
  void* data;
  size_t bytes;
};

// The kept blocks, which no call uses at the moment.
struct Spare {
  static constexpr int kMost = 64;  // blocks
  Block blocks[kMost];
  int count;
  size_t bytes;  // of all blocks together
  bool locked;   // whether a thread is at work on the fields above

  // Returns false if another thread holds the lock for long; the caller then does without kept blocks. In a process that
  // was forked while a thread held the lock, that thread does not exist and the lock is never given back.
  bool lock() {
    for (int tries = 0; tries < 1000; tries++)
      if (!__atomic_exchange_n(&locked, true, __ATOMIC_ACQUIRE)) return true;
    return false;
  }
  void unlock() { __atomic_store_n(&locked, false, __ATOMIC_RELEASE); }

  // Takes the smallest block of at least so many bytes. If there is none, the largest block is freed, so that blocks of a
  // size that is no longer asked for do not stay for ever, and an empty block is returned.
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

  // Keeps a block. False: there is no room for it, or it is small.
  bool keep(const Block& b) {
    if (b.bytes < kLarge || !lock()) return false;
    const bool room = count < kMost && bytes + b.bytes <= kMostKept;
    if (room) blocks[count++] = b, bytes += b.bytes;
    unlock();
    return room;
  }
};
inline Spare spare;

// An array whose entries are not initialised.
template <class X>
struct Buffer {
  X* data = nullptr;
  ~Buffer() { clear(); }
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  // Makes room for n entries; if that takes another block, the entries are lost. False: there is no memory.
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
