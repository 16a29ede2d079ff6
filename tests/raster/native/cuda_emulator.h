// SPDX-License-Identifier: MIT
// Runs CUDA kernels on the CPU, for tests: one block at a time, a fiber for each CUDA thread, which runs until it meets
// a barrier; in which order the fibers of a block run is random and depends on a seed. Shared memory starts as NaN.
// Covered: what the kernels use. Not covered: threads that truly run at once, memory ordering, partial warp masks.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __noinline__ __attribute__((noinline))
#define __shared__ static __attribute__((section("emulated_shared")))
#undef isfinite
#define isfinite(x) __builtin_isfinite(x)

// What the linker calls the ends of all shared memory.
extern "C" char __start_emulated_shared[] __attribute__((weak)), __stop_emulated_shared[] __attribute__((weak));

namespace emulator {

struct Index {
  unsigned x, y, z;
};

enum State { kRuns, kAtBlockBarrier, kAtWarpOperation, kDone };

struct Thread {
  jmp_buf place;
  State state;
  int line;          // of the barrier it waits at
  unsigned turn;     // which of the two slots its next warp operation uses
  uint64_t slot[2];  // what it shows to the other lanes
};

constexpr int kMost = 1024, kStack = 64 * 1024, kLanes = 32;
inline Thread threads[kMost];
inline int count, current;
inline jmp_buf scheduler;
inline ucontext_t main_context;
inline Index thread_index, block_index, block_size, grid_size;
inline uint64_t random_state;
inline void (*body)(void*);
inline void* argument;

inline unsigned random_below(unsigned n) {
  random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
  return (unsigned)((random_state >> 33) % n);
}

inline void wait(State state, int line) {
  threads[current].state = state, threads[current].line = line;
  if (_setjmp(threads[current].place) == 0) _longjmp(scheduler, 1);
}

// A fiber's life: one block after another.
inline void live() {
  const int self = current;
  for (;;) {
    if (_setjmp(threads[self].place) == 0) _longjmp(scheduler, 1);
    body(argument);
    threads[self].state = kDone;
  }
}

[[noreturn]] inline void fail(const char* why) {
  fprintf(stderr, "CUDA emulator: %s, in block (%u, %u, %u)\n", why, block_index.x, block_index.y, block_index.z);
  for (int i = 0; i < count; i++)
    if (threads[i].state != kDone) fprintf(stderr, " thread %d in line %d;", i, threads[i].line);
  fputc('\n', stderr);
  abort();
}

inline void create_fibers() {
  static int made = 0;
  static ucontext_t start;
  for (; made < count; made++) {
    getcontext(&start);
    start.uc_stack.ss_sp = malloc(kStack), start.uc_stack.ss_size = kStack, start.uc_link = nullptr;
    makecontext(&start, live, 0);
    current = made;
    if (_setjmp(scheduler) == 0) swapcontext(&main_context, &start);
  }
}

inline void run(int thread) {
  current = thread;
  thread_index = {thread % block_size.x, thread / block_size.x, 0};
  if (_setjmp(scheduler) == 0) _longjmp(threads[thread].place, 1);
}

// Lets go those of [begin, end) that wait in this state, if all do that have not ended; true: it did.
inline bool pass(int begin, int end, State state, const char* divergence) {
  int line = 0;
  for (int i = begin; i < end; i++) {
    if (threads[i].state == kDone) continue;
    if (threads[i].state != state) return false;
    if (line && threads[i].line != line) fail(divergence);
    line = threads[i].line;
  }
  for (int i = begin; i < end; i++)
    if (threads[i].state == state) threads[i].state = kRuns;
  return line != 0;
}

inline void run_block() {
  if (__start_emulated_shared) memset(__start_emulated_shared, 0xff, __stop_emulated_shared - __start_emulated_shared);
  for (int i = 0; i < count; i++) threads[i].state = kRuns, threads[i].turn = 0;
  int order[kMost / kLanes];
  const int warps = count / kLanes;
  for (int w = 0; w < warps; w++) order[w] = w;
  for (;;) {
    bool progress = false, alive = false;
    for (int w = warps - 1; w > 0; w--) {
      const int other = random_below(w + 1), kept = order[w];
      order[w] = order[other], order[other] = kept;
    }
    for (int w = 0; w < warps; w++) {
      const int first = order[w] * kLanes;
      do {  // on to the warp's next operation, now and then several times before another warp runs
        const int rotation = random_below(kLanes), step = 2 * random_below(kLanes / 2) + 1;
        for (int l = 0; l < kLanes; l++) {
          const int thread = first + (rotation + l * step) % kLanes;
          if (threads[thread].state == kRuns) run(thread), progress = true;
        }
      } while (pass(first, first + kLanes, kAtWarpOperation, "lanes of a warp in different warp operations") &&
               random_below(8) && (progress = true));
    }
    if (pass(0, count, kAtBlockBarrier, "threads of a block at different barriers")) progress = true;
    for (int i = 0; i < count; i++) alive = alive || threads[i].state != kDone, progress = progress || threads[i].state == kRuns;
    if (!alive) return;
    if (!progress) fail("some threads of a block or warp never come to the barrier the others wait at");
  }
}

template <class Argument>
void launch(void (*kernel)(Argument), Index grid, Index block, void* value, uint64_t seed) {
  struct Job {
    void (*kernel)(Argument);
    void* value;
  } job = {kernel, value};
  count = block.x * block.y * block.z, block_size = block, grid_size = grid, random_state = seed;
  if (count % kLanes || count > kMost) fail("blocks must be of whole warps");
  create_fibers();
  argument = &job;
  body = [](void* p) { ((Job*)p)->kernel(*(Argument*)((Job*)p)->value); };
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) block_index = {x, y, z}, run_block();
}

// ---------------------------------------------------------------------------------------------- warp operations

template <class T>
uint64_t bits(T value) {
  uint64_t out = 0;
  memcpy(&out, &value, sizeof value);
  return out;
}
template <class T>
T value_of(uint64_t from) {
  T out;
  memcpy(&out, &from, sizeof out);
  return out;
}

// Shows a value to the other lanes and waits for theirs. Two slots in turn: nobody is more than one operation ahead.
inline unsigned exchange(uint64_t shown, int line) {
  Thread& self = threads[current];
  const unsigned turn = self.turn;
  self.slot[turn] = shown, self.turn = 1 - turn;
  wait(kAtWarpOperation, line);
  return turn;
}
template <class T>
T shuffle(T value, int source, int line) {
  const int warp = current / kLanes * kLanes;
  const unsigned turn = exchange(bits(value), line);
  return source < 0 || source >= kLanes ? value : value_of<T>(threads[warp + source].slot[turn]);
}
inline unsigned ballot(bool yes, int line) {
  const int warp = current / kLanes * kLanes;
  const unsigned turn = exchange(yes, line);
  unsigned out = 0;
  for (int l = 0; l < kLanes; l++) out |= unsigned(threads[warp + l].slot[turn] != 0) << l;
  return out;
}
inline int lane() { return current % kLanes; }

}  // namespace emulator

#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
#define blockDim emulator::block_size
#define gridDim emulator::grid_size
#define __syncthreads() emulator::wait(emulator::kAtBlockBarrier, __LINE__)
#define __syncwarp() emulator::wait(emulator::kAtWarpOperation, __LINE__)
#define __shfl_sync(mask, value, source) emulator::shuffle(value, (source) % emulator::kLanes, __LINE__)
#define __shfl_up_sync(mask, value, by) emulator::shuffle(value, emulator::lane() - (by), __LINE__)
#define __shfl_xor_sync(mask, value, by) emulator::shuffle(value, emulator::lane() ^ (by), __LINE__)
#define __ballot_sync(mask, yes) emulator::ballot(yes, __LINE__)
#define __any_sync(mask, yes) (emulator::ballot(yes, __LINE__) != 0)

template <class T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at = before + value;
  return before;
}
inline int atomicOr(int* at, int value) {
  const int before = *at;
  *at = before | value;
  return before;
}
template <class T>
T atomicMin(T* at, T value) {
  const T before = *at;
  *at = before < value ? before : value;
  return before;
}
template <class T>
T atomicMax(T* at, T value) {
  const T before = *at;
  *at = before < value ? value : before;
  return before;
}
inline double __dmul_rn(double a, double b) { return a * b; }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __float_as_int(float value) { return (int)emulator::bits(value); }
inline long long __double_as_longlong(double value) { return (long long)emulator::bits(value); }
