// What a CPU does fastest in loops of our own: a mode of all threads, a cipher's words, Adam.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <omp.h>
#include <pthread.h>
#if defined(__x86_64__)
#include <immintrin.h>
typedef unsigned int Mode;
static const Mode FLUSH = 0x8040;  // results and operands
static Mode mode() { return _mm_getcsr(); }
static void set(Mode m) { _mm_setcsr(m); }
#elif defined(__aarch64__)
typedef unsigned long Mode;
static const Mode FLUSH = 1ul << 24;
static Mode mode() { Mode m; asm volatile("mrs %0, fpcr" : "=r"(m)); return m; }
static void set(Mode m) { asm volatile("msr fpcr, %0" : : "r"(m)); }
#else
#error "unknown processor"
#endif

// The thread that went through a fork: those that OpenMP had started for it did not, and it would wait for them
static std::atomic<unsigned long> forked{0};
extern "C" void leave_alone(unsigned long thread) { forked = thread; }
static bool alone() { return forked && (unsigned long)pthread_self() == forked; }

// From a begin to its end, and as before after the outermost. A thread that OpenMP starts in between has the
// mode of the one that starts it, and has to be given that of before.
extern "C" void flush(int begin) {
  static thread_local int depth;
  static thread_local Mode first;  // of the caller
  if (begin && !depth++) first = mode();
  if (!begin && (!depth || --depth)) return;
  const bool inside = !begin || depth > 1;
  const Mode usual = first & FLUSH;
#pragma omp parallel if (!alone())
  {
    static thread_local bool flushing;
    static thread_local Mode before;
    if (!flushing) before = inside ? (mode() & ~FLUSH) | usual : mode();
    flushing = begin;
    set(begin ? before | FLUSH : before);
  }
}

// Threefry-2x32 at (0, stream), (1, stream), ...: all first words, then all second ones. Of 13 rounds, the
// fewest that pass TestU01's BigCrush. Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2,
// 3, SC 2011
#define ROUND(turn) x += y; y = (y << turn) | (y >> (32 - turn)); y ^= x;
#define KEY(one, two, number) x += one; y += two + number;

static void threefry(const uint32_t* key, uint32_t stream, int64_t count, uint32_t* words) {
  const uint32_t a = key[0], b = key[1], c = a ^ b ^ 0x1BD11BDAu;
#pragma omp parallel for simd schedule(static) if (count > 4096 && !alone())
  for (int64_t i = 0; i < count; ++i) {
    uint32_t x = (uint32_t)i + a, y = stream + b;
    ROUND(13) ROUND(15) ROUND(26) ROUND(6) KEY(b, c, 1)
    ROUND(17) ROUND(29) ROUND(16) ROUND(24) KEY(c, a, 2)
    ROUND(13) ROUND(15) ROUND(26) ROUND(6) KEY(a, b, 3)
    ROUND(17)
    words[i] = x;
    words[count + i] = y;
  }
}

struct Adam {
  double rate, beta1, beta2, eps, decay, largest, decoupled, maximize, kind;  // as of torch.optim and Pyro's
};

enum Kind { PLAIN, CLIPPED, ADAMAX };  // Pyro's clipped one has eps beside the root uncorrected

// `decayed`: without it no multiple of a weight, which may be infinite, is in its gradient
template <Kind kind, bool decayed>
static void update(const Adam& o, double step, int64_t count, float* __restrict weight,
                   const float* __restrict gradient, float* __restrict mean, float* __restrict square) {
  const float size = o.rate / (1 - std::pow(o.beta1, step)), most = o.largest;
  const float narrow = 1 / std::sqrt(1 - std::pow(o.beta2, step));
  const float eps = kind == CLIPPED ? o.eps * narrow : o.eps;
  const float keep = o.decoupled ? 1 - o.rate * o.decay : 1, sign = o.maximize ? -1 : 1, decay = o.decay;
  const float old1 = o.beta1, new1 = 1 - o.beta1, old2 = o.beta2, new2 = 1 - o.beta2;
  const bool near = new1 >= .5f;  // torch's lerp starts at the end that is nearer
  const float part = near ? new1 - 1 : new1;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const float w = weight[i], m = mean[i];
    float g = gradient[i];
    if (kind == CLIPPED) g = g < -most ? -most : (g > most ? most : g);  // NaN stays
    g = decayed ? sign * g + decay * w : sign * g;
    mean[i] = kind == CLIPPED ? old1 * m + new1 * g : (near ? g : m) + part * (g - m);
    if (kind == ADAMAX) {
      const float before = old2 * square[i], now = std::fabs(g) + eps;
      square[i] = now >= before || now != now ? now : before;  // NaN stays
      weight[i] = w - size * mean[i] / square[i];
      continue;
    }
    square[i] = old2 * square[i] + new2 * g * g;
    weight[i] = keep * w - size * mean[i] / (narrow * std::sqrt(square[i]) + eps);
  }
}

// Each thread has an equal share of all numbers, whatever parameter they are of. `each`: weights, gradients,
// means, squares and steps, which are counted, one after another; `ends` of the parameters
extern "C" void adam(const Adam* options, int64_t parameters, float** each, const int64_t* ends) {
  const int64_t total = ends[parameters - 1];
  const bool decayed = options->decay && !options->decoupled;
  for (int64_t i = 0; i < parameters; ++i) ++*each[4 * parameters + i];
#pragma omp parallel if (total > 16384 && !alone())
  {
    const int64_t threads = omp_get_num_threads(), share = (total + threads - 1) / threads;
    const int64_t from = share * omp_get_thread_num(), to = std::min(total, from + share);
    for (int64_t i = 0; i < parameters; ++i) {
      const int64_t start = i ? ends[i - 1] : 0, first = std::max(from, start) - start;
      const int64_t count = std::min(to, ends[i]) - start - first;
      float** at = each + i;
      if (count > 0)
        (options->kind == ADAMAX    ? decayed ? update<ADAMAX, true> : update<ADAMAX, false>
         : options->kind == CLIPPED ? decayed ? update<CLIPPED, true> : update<CLIPPED, false>
         : decayed                  ? update<PLAIN, true>
                                    : update<PLAIN, false>)(
            *options, *at[4 * parameters], count, at[0] + first, at[parameters] + first,
            at[2 * parameters] + first, at[3 * parameters] + first);
    }
  }
}
