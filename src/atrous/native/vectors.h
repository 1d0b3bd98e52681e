// Numbers of neighboring channels in one vector of the processor, in float32 or bfloat16; sums are float32.
#pragma once

#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int WIDE = 16;
#else
constexpr int WIDE = 8;
#endif

// Neighboring channels in one vector.
struct Vectors {
    static constexpr int LANES = WIDE;
    typedef float Floats __attribute__((vector_size(WIDE * 4)));
    typedef uint32_t Bits __attribute__((vector_size(WIDE * 4)));
    typedef uint16_t Halves __attribute__((vector_size(WIDE * 2)));

    static Bits widen(Halves halves) { return __builtin_convertvector(halves, Bits); }
    static Halves narrow(Bits bits) { return __builtin_convertvector(bits, Halves); }
    static Bits where(Bits condition, Bits yes, Bits no) { return (condition & yes) | (~condition & no); }
    static Bits greater(Bits bits, uint32_t bound) { return (Bits)(bits > bound); }
};

// One channel: what is left where their number is no multiple of a vector's.
struct Single {
    static constexpr int LANES = 1;
    typedef float Floats;
    typedef uint32_t Bits;
    typedef uint16_t Halves;

    static Bits widen(Halves halves) { return halves; }
    static Halves narrow(Bits bits) { return (Halves)bits; }
    static Bits where(Bits condition, Bits yes, Bits no) { return condition ? yes : no; }
    static Bits greater(Bits bits, uint32_t bound) { return bits > bound; }
};

template <class L>
typename L::Floats load(const float* from) {
    typename L::Floats values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

// A bfloat16 is the upper half of a float32.
template <class L>
typename L::Floats load(const uint16_t* from) {
    typename L::Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    const typename L::Bits bits = L::widen(halves) << 16;
    typename L::Floats values;
    std::memcpy(&values, &bits, sizeof values);
    return values;
}

template <class L>
void store(float* to, typename L::Floats values) {
    std::memcpy(to, &values, sizeof values);
}

// Rounds to the nearest, ties to even; not-a-number stays one.
template <class L>
void store(uint16_t* to, typename L::Floats values) {
    typename L::Bits bits;
    std::memcpy(&bits, &values, sizeof bits);
    const typename L::Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const typename L::Bits not_a_number = typename L::Bits{} + 0x7fc0;
    const typename L::Halves halves =
        L::narrow(L::where(L::greater(bits & 0x7fffffff, 0x7f800000), not_a_number, rounded));
    std::memcpy(to, &halves, sizeof halves);
}

}  // namespace
