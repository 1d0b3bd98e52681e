// Batch norm and the clamp after it (ReLU, ReLU6), for maps in float32 or bfloat16 whose channels lie together.
//
// A map is read once for its statistics and once to normalize it; backward, map and slope are read twice. PyTorch's own
// takes 13 passes over memory where this takes 8. Work is split into parts of a fixed number of pixels, and the parts'
// sums are added in one order, so results do not depend on the number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "vectors.h"

// Matches the structure in kernel.py. A map is pixels×channels.
struct Norm {
    int64_t pixels, channels, part, threads;
    float eps, momentum, low, high;
};

namespace {

// Calls a function for every channel of a part: with the widest vectors first, then one by one.
template <class Function>
void for_channels(int64_t channels, Function function) {
    int64_t c = 0;
    for (; c + WIDE <= channels; c += WIDE) function(Vectors{}, c);
    for (; c < channels; ++c) function(Single{}, c);
}

// Calls a function for every part of the map, with its number, first pixel and end.
template <class Function>
void for_parts(const Norm& n, Function function) {
    const int64_t parts = (n.pixels + n.part - 1) / n.part;
#pragma omp parallel for schedule(static) num_threads(n.threads)
    for (int64_t i = 0; i < parts; ++i) function(i, i * n.part, std::min(n.pixels, (i + 1) * n.part));
}

// Not-a-number stays one.
template <class Floats>
Floats clamp(Floats values, Floats low, Floats high) {
    values = values < low ? low : values;
    return values > high ? high : values;
}

// The slope where the clamp has let a value through.
template <class Floats>
Floats let_through(Floats values, Floats slope, Floats low, Floats high) {
    slope = values <= low ? Floats{} : slope;
    return values >= high ? Floats{} : slope;
}

// Sums of values and of their squares for each part, both of the distance from the part's first pixel.
template <class Element>
void sum_parts(const Element* in, float* sums, const Norm& n) {
    const int64_t channels = n.channels;
    for_parts(n, [&](int64_t part, int64_t first, int64_t end) {
        float* own = sums + part * 2 * channels;
        std::fill(own, own + 2 * channels, 0.0f);
        const Element* origin = in + first * channels;
        int64_t p = first;
        const auto add = [&](auto count) {
            constexpr int COUNT = decltype(count)::value;
            const Element* from = in + p * channels;
            for_channels(channels, [&](auto lanes, int64_t c) {
                using L = decltype(lanes);
                const auto shift = load<L>(origin + c);
                auto sum = load<L>(own + c), squares = load<L>(own + channels + c);
                for (int k = 0; k < COUNT; ++k) {
                    const auto distance = load<L>(from + k * channels + c) - shift;
                    sum += distance;
                    squares += distance * distance;
                }
                store<L>(own + c, sum);
                store<L>(own + channels + c, squares);
            });
            p += COUNT;
        };
        while (p + 4 <= end) add(std::integral_constant<int, 4>{});
        while (p < end) add(std::integral_constant<int, 1>{});
    });
}

// Mean and variance of one channel from the sums of all parts (Chan, Golub and LeVeque 1979).
template <class Element>
void join_parts(const Element* in, const float* sums, const Norm& n, int64_t c, double& mean, double& variance) {
    double count = 0, squares = 0;
    mean = 0;
    for (int64_t first = 0; first < n.pixels; first += n.part, sums += 2 * n.channels) {
        const double more = double(std::min(n.pixels, first + n.part) - first);
        const double sum = sums[c];
        const double distance = load<Single>(in + first * n.channels + c) + sum / more - mean;
        squares += sums[n.channels + c] - sum * sum / more + distance * distance * count * more / (count + more);
        count += more;
        mean += distance * more / count;
    }
    variance = std::max(squares, 0.0) / count;
}

template <class Element>
void normalize(const Element* in, const float* scale, const float* shift, Element* out, const Norm& n) {
    const int64_t channels = n.channels;
    for_parts(n, [&](int64_t, int64_t first, int64_t end) {
        for (int64_t p = first; p < end; ++p)
            for_channels(channels, [&](auto lanes, int64_t c) {
                using L = decltype(lanes);
                const auto values = load<L>(in + p * channels + c) * load<L>(scale + c) + load<L>(shift + c);
                const typename L::Floats low = typename L::Floats{} + n.low, high = typename L::Floats{} + n.high;
                store<L>(out + p * channels + c, clamp<typename L::Floats>(values, low, high));
            });
    });
}

// saved: 4×channels for mean, 1 / deviation, scale and shift; sums: parts×2×channels.
template <class Element>
void learn(const Element* in, const float* weight, const float* bias, float* running_mean, float* running_variance,
           Element* out, float* saved, float* sums, const Norm& n) {
    const int64_t channels = n.channels;
    sum_parts(in, sums, n);
#pragma omp parallel for schedule(static) num_threads(n.threads)
    for (int64_t c = 0; c < channels; ++c) {
        double mean, variance;
        join_parts(in, sums, n, c, mean, variance);
        const double inverse = 1 / std::sqrt(variance + n.eps);
        const double scale = (weight ? weight[c] : 1) * inverse;
        saved[c] = float(mean);
        saved[channels + c] = float(inverse);
        saved[2 * channels + c] = float(scale);
        saved[3 * channels + c] = float((bias ? bias[c] : 0) - mean * scale);
        if (running_mean) {
            running_mean[c] += n.momentum * (float(mean) - running_mean[c]);
            const double unbiased = variance * double(n.pixels) / double(n.pixels - 1);
            running_variance[c] += n.momentum * (float(unbiased) - running_variance[c]);
        }
    }
    normalize(in, saved + 2 * channels, saved + 3 * channels, out, n);
}

template <class Element>
void differentiate(const Element* in, const Element* slope, const float* saved, Element* in_slope, float* weight_slope,
                   float* bias_slope, float* sums, const Norm& n) {
    const int64_t channels = n.channels;
    const float *mean = saved, *inverse = saved + channels, *scale = saved + 2 * channels, *shift = saved + 3 * channels;
    const auto slope_before_clamp = [&](auto lanes, int64_t p, int64_t c, auto values) {
        using L = decltype(lanes);
        const typename L::Floats low = typename L::Floats{} + n.low, high = typename L::Floats{} + n.high;
        const typename L::Floats normalized = values * load<L>(scale + c) + load<L>(shift + c);
        return let_through<typename L::Floats>(normalized, load<L>(slope + p * channels + c), low, high);
    };
    for_parts(n, [&](int64_t part, int64_t first, int64_t end) {
        float* own = sums + part * 2 * channels;
        std::fill(own, own + 2 * channels, 0.0f);
        int64_t p = first;
        const auto add = [&](auto count) {
            for_channels(channels, [&](auto lanes, int64_t c) {
                using L = decltype(lanes);
                auto sum = load<L>(own + c), products = load<L>(own + channels + c);
                for (int k = 0; k < decltype(count)::value; ++k) {
                    const auto values = load<L>(in + (p + k) * channels + c);
                    const auto passed = slope_before_clamp(lanes, p + k, c, values);
                    sum += passed;
                    products += passed * (values - load<L>(mean + c));
                }
                store<L>(own + c, sum);
                store<L>(own + channels + c, products);
            });
            p += decltype(count)::value;
        };
        while (p + 4 <= end) add(std::integral_constant<int, 4>{});
        while (p < end) add(std::integral_constant<int, 1>{});
    });
    // The map's slope is scale · slope + linear · value + constant; the last two take the place of the parts' sums.
    const int64_t parts = (n.pixels + n.part - 1) / n.part;
    float *linear = sums, *constant = sums + channels;
#pragma omp parallel for schedule(static) num_threads(n.threads)
    for (int64_t c = 0; c < channels; ++c) {
        double sum = 0, products = 0;
        for (int64_t part = 0; part < parts; ++part) {
            sum += sums[part * 2 * channels + c];
            products += sums[(part * 2 + 1) * channels + c];
        }
        bias_slope[c] = float(sum);
        weight_slope[c] = float(products * inverse[c]);
        const double factor = -double(scale[c]) * inverse[c] * inverse[c] * products / double(n.pixels);
        linear[c] = float(factor);
        constant[c] = float(-double(scale[c]) * sum / double(n.pixels) - factor * mean[c]);
    }
    if (!in_slope) return;
    for_parts(n, [&](int64_t, int64_t first, int64_t end) {
        for (int64_t p = first; p < end; ++p)
            for_channels(channels, [&](auto lanes, int64_t c) {
                using L = decltype(lanes);
                const auto values = load<L>(in + p * channels + c);
                const auto passed = slope_before_clamp(lanes, p, c, values);
                store<L>(in_slope + p * channels + c, passed * load<L>(scale + c) + values * load<L>(linear + c) +
                                                          load<L>(constant + c));
            });
    });
}

// With statistics that stay as they are; "out" is what normalize has returned.
template <class Element>
void differentiate_frozen(const Element* out, const Element* slope, const float* scale, Element* in_slope,
                          const Norm& n) {
    const int64_t channels = n.channels;
    for_parts(n, [&](int64_t, int64_t first, int64_t end) {
        for (int64_t p = first; p < end; ++p)
            for_channels(channels, [&](auto lanes, int64_t c) {
                using L = decltype(lanes);
                using Floats = typename L::Floats;
                const int64_t at = p * channels + c;
                const Floats low = Floats{} + n.low, high = Floats{} + n.high;
                const Floats passed = let_through<Floats>(load<L>(out + at), load<L>(slope + at), low, high);
                store<L>(in_slope + at, passed * load<L>(scale + c));
            });
    });
}

}  // namespace

#define FOR_PRECISION(NAME, ELEMENT)                                                                                   \
    extern "C" void learn_##NAME(const ELEMENT* in, const float* weight, const float* bias, float* running_mean,       \
                                 float* running_variance, ELEMENT* out, float* saved, float* sums, const Norm* n) {    \
        learn(in, weight, bias, running_mean, running_variance, out, saved, sums, *n);                                 \
    }                                                                                                                  \
    extern "C" void differentiate_##NAME(const ELEMENT* in, const ELEMENT* slope, const float* saved,                  \
                                         ELEMENT* in_slope, float* weight_slope, float* bias_slope, float* sums,       \
                                         const Norm* n) {                                                              \
        differentiate(in, slope, saved, in_slope, weight_slope, bias_slope, sums, *n);                                 \
    }                                                                                                                  \
    extern "C" void normalize_##NAME(const ELEMENT* in, const float* scale, const float* shift, ELEMENT* out,          \
                                     const Norm* n) {                                                                  \
        normalize(in, scale, shift, out, *n);                                                                          \
    }                                                                                                                  \
    extern "C" void differentiate_frozen_##NAME(const ELEMENT* out, const ELEMENT* slope, const float* scale,          \
                                                ELEMENT* in_slope, const Norm* n) {                                    \
        differentiate_frozen(out, slope, scale, in_slope, *n);                                                         \
    }

FOR_PRECISION(float32, float)
FOR_PRECISION(bfloat16, uint16_t)
