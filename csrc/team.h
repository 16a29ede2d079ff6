// SPDX-License-Identifier: MIT
// A team of threads that run one function together and meet at barriers. Threads live for one call: there is no pool
// to outlive a fork or an unloaded library. No OpenMP (torch brings its own runtime), no C++ standard library.
#pragma once
#include <stdint.h>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#undef near  // left over from segmented memory
#undef far
#else
#include <pthread.h>
#include <sched.h>
#endif

namespace softras::SOFTRAS_ISA {

constexpr int kMaxThreads = 256;

inline void yield_thread() {
#if defined(_WIN32)
  SwitchToThread();
#else
  sched_yield();
#endif
}

struct Team {
  int size = 1;
  int waiting = 0;
  int generation = 0;
  bool stop = false;

  // All members wait here for each other. Returns whether to stop: the last one to arrive reads `status` for all, so
  // that they decide alike.
  bool barrier(const int& status) {
    if (size == 1) return __atomic_load_n(&status, __ATOMIC_RELAXED) != 0;
    const int now = __atomic_load_n(&generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&waiting, 1, __ATOMIC_ACQ_REL) == size) {
      stop = __atomic_load_n(&status, __ATOMIC_RELAXED) != 0;
      __atomic_store_n(&waiting, 0, __ATOMIC_RELAXED);
      __atomic_store_n(&generation, now + 1, __ATOMIC_RELEASE);
      return stop;
    }
    for (int spins = 0; __atomic_load_n(&generation, __ATOMIC_ACQUIRE) == now; spins++) {
      if (spins > 2000) yield_thread();
    }
    return stop;
  }
};

// The number of threads that share a piece of work: at most `allowed`, and only as many as have `least` units of it each,
// since starting a thread costs time. A library built with SOFTRAS_EAGER_THREADS takes as many as are allowed for any
// work, so that a thread sanitizer sees them meet in the smallest scene (sanitize.py).
inline int team_size(int64_t work, int64_t least, int allowed) {
#if defined(SOFTRAS_EAGER_THREADS)
  least = 0;
#endif
  int64_t size = allowed < kMaxThreads ? allowed : kMaxThreads;
  if (least > 0 && size > work / least) size = work / least;
  return size < 1 ? 1 : (int)size;
}

// The next number of a shared counter.
inline int64_t take(int64_t& counter) { return __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED); }

// Member `rank` of a team of `size` works on [begin, end) of n items.
struct Share {
  int64_t begin, end;
};
inline Share share(int64_t n, int rank, int size) { return {n * rank / size, n * (rank + 1) / size}; }

template <class Work>
struct Member {
  Work* work;
  int rank;
#if defined(_WIN32)
  HANDLE thread;
  static DWORD WINAPI main(void* m) { return (*((Member*)m)->work)(((Member*)m)->rank), 0; }
  bool start() { return (thread = CreateThread(nullptr, 0, main, this, 0, nullptr)) != nullptr; }
  void join() { WaitForSingleObject(thread, INFINITE), CloseHandle(thread); }
#else
  pthread_t thread;
  static void* main(void* m) { return (*((Member*)m)->work)(((Member*)m)->rank), nullptr; }
  bool start() { return pthread_create(&thread, nullptr, main, this) == 0; }
  void join() { pthread_join(thread, nullptr); }
#endif
};

// Calls work(rank) for every rank < team.size at once. Threads that cannot be started make the team smaller: no
// member begins before the size is final.
template <class Work>
inline void run_team(Team& team, Work& work) {
  int open = 0;
  auto gated = [&](int rank) {
    while (rank != 0 && !__atomic_load_n(&open, __ATOMIC_ACQUIRE)) yield_thread();
    work(rank);
  };
  Member<decltype(gated)> members[kMaxThreads];
  int size = 1;
  for (; size < team.size; size++) {
    members[size].work = &gated, members[size].rank = size;
    if (!members[size].start()) break;
  }
  team.size = size;
  __atomic_store_n(&open, 1, __ATOMIC_RELEASE);
  gated(0);
  for (int rank = 1; rank < size; rank++) members[rank].join();
}

}  // namespace softras::SOFTRAS_ISA
