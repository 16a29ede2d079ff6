// SPDX-License-Identifier: MIT
// A team of threads that run one function together and meet at barriers. The threads are started for each call and end with
// it, so that there is no pool that a fork or unloading the library could break. OpenMP is not used, since torch brings an
// OpenMP runtime of its own, and neither is the C++ standard library.
#pragma once
#include <stdint.h>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#undef near  // macros of windows.h, from the days of segmented memory
#undef far
#else
#include <pthread.h>
#include <sched.h>
#endif

namespace softras::SOFTRAS_ISA {

constexpr int kMaxThreads = 256;  // members of a team

// Lets other threads run.
inline void yield_thread() {
#if defined(_WIN32)
  SwitchToThread();
#else
  sched_yield();
#endif
}

// The members of a team have the ranks 0 to size - 1.
struct Team {
  int size = 1;
  int waiting = 0;     // members that have arrived at the present barrier
  int generation = 0;  // barriers that have been passed
  bool stop = false;   // what the last barrier returned

  // Waits until all members have arrived. Returns whether they are to stop, because `status` is not 0. The member that
  // arrives last reads it for all, so that all members decide alike.
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

// Counts a shared counter up and returns what it was before: each value 0, 1, ... is given to one thread.
inline int64_t take(int64_t& counter) { return __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED); }

// The items begin <= i < end.
struct Share {
  int64_t begin, end;
};
// The share of n items that member `rank` of a team of `size` works on.
inline Share share(int64_t n, int rank, int size) { return {n * rank / size, n * (rank + 1) / size}; }

// A thread that calls work(rank), by the functions of the operating system.
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

// Calls work(rank) at once in team.size threads, one of which is the calling one, and waits for all of them. If a thread
// cannot be started the team becomes smaller, so no member begins before the size of the team is final.
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
