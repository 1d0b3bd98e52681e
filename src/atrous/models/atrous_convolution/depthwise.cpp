// Depthwise convolution and its weight gradient, for maps in float32 or bfloat16 whose channels lie together.
//
// The vector unit is filled with neighboring channels, so nothing is ever rearranged, whatever kernel, rate and stride.
// Sums are float32. Work is split by image and row, or by image and channels, and every sum is taken in one order, so
// results do not depend on the number of threads.

#include <algorithm>
#include <cstdint>

#include "vectors.h"

namespace {

constexpr int BLOCK = 4;             // vectors that are summed at once, which hides the delay of an addition
constexpr int64_t CACHED = 16 << 10;  // bytes of filters that stay in the first cache

}  // namespace

// Matches the structure in compiled.py. "in" is the map, "out" the result.
struct Shape {
    int64_t batch, channels;
    int64_t in_rows, in_columns, out_rows, out_columns;
    int64_t kernel_rows, kernel_columns;
    int64_t rate_rows, rate_columns, stride_rows, stride_columns, padding_rows, padding_columns;
    int64_t threads;
};

namespace {

struct Range {
    int64_t first, end;
};

// Which taps of a kernel are inside a map, if tap 0 is at a place.
Range inside(int64_t place, int64_t taps, int64_t rate, int64_t extent) {
    const int64_t first = place >= 0 ? 0 : (rate - 1 - place) / rate;
    const int64_t end = place >= extent ? 0 : std::min(taps, (extent - 1 - place) / rate + 1);
    return {std::min(first, end), end};
}

// For which results a tap is inside the map, if it is at an offset for result 0.
Range reached(int64_t offset, int64_t results, int64_t stride, int64_t extent) {
    const int64_t first = offset >= 0 ? 0 : (stride - 1 - offset) / stride;
    const int64_t end = offset >= extent ? 0 : std::min(results, (extent - 1 - offset) / stride + 1);
    return {std::min(first, end), end};
}

template <class Element, class L, int COUNT>
void convolve_channels(const Element* in, const float* filters, const float* bias, Element* out, const Shape& s,
                       Range rows, Range columns) {
    constexpr int LANES = L::LANES;
    typename L::Floats sums[COUNT];
    for (int n = 0; n < COUNT; ++n) sums[n] = bias ? load<L>(bias + n * LANES) : typename L::Floats{};
    for (int64_t i = rows.first; i < rows.end; ++i) {
        const Element* seen = in + i * s.rate_rows * s.in_columns * s.channels;
        const float* row = filters + i * s.kernel_columns * s.channels;
        for (int64_t j = columns.first; j < columns.end; ++j)
            for (int n = 0; n < COUNT; ++n)
                sums[n] += load<L>(seen + j * s.rate_columns * s.channels + n * LANES) *
                           load<L>(row + j * s.channels + n * LANES);
    }
    for (int n = 0; n < COUNT; ++n) store<L>(out + n * LANES, sums[n]);
}

template <class Element>
void convolve(const Element* in, const float* filters, const float* bias, Element* out, const Shape& s) {
    const int64_t fitting = CACHED / (4 * s.kernel_rows * s.kernel_columns);
    const int64_t chunk = std::max<int64_t>(1, fitting / (BLOCK * WIDE)) * BLOCK * WIDE;
#pragma omp parallel for collapse(2) schedule(static) num_threads(s.threads)
    for (int64_t b = 0; b < s.batch; ++b)
        for (int64_t y = 0; y < s.out_rows; ++y) {
            const int64_t top = y * s.stride_rows - s.padding_rows;
            const Range rows = inside(top, s.kernel_rows, s.rate_rows, s.in_rows);
            for (int64_t start = 0; start < s.channels; start += chunk) {
                const int64_t end = std::min(s.channels, start + chunk);
                for (int64_t x = 0; x < s.out_columns; ++x) {
                    const int64_t left = x * s.stride_columns - s.padding_columns;
                    const Range columns = inside(left, s.kernel_columns, s.rate_columns, s.in_columns);
                    const Element* from = in + ((b * s.in_rows + top) * s.in_columns + left) * s.channels;
                    Element* to = out + ((b * s.out_rows + y) * s.out_columns + x) * s.channels;
                    int64_t c = start;
                    const auto at = [&](auto function, int64_t width) {
                        for (; c + width <= end; c += width)
                            function(from + c, filters + c, bias ? bias + c : nullptr, to + c, s, rows, columns);
                    };
                    at(convolve_channels<Element, Vectors, BLOCK>, BLOCK * WIDE);
                    at(convolve_channels<Element, Vectors, 1>, WIDE);
                    at(convolve_channels<Element, Single, 1>, 1);
                }
            }
        }
}

// Sums over the places of one image. "in" and "slope" start at the image, all three at the first channel.
template <class Element, class L, int COUNT>
void correlate_channels(const Element* in, const Element* slope, float* sums, const Shape& s) {
    constexpr int LANES = L::LANES;
    for (int64_t tap = 0; tap < s.kernel_rows * s.kernel_columns; ++tap)
        for (int n = 0; n < COUNT; ++n) store<L>(sums + tap * s.channels + n * LANES, typename L::Floats{});
    for (int64_t y = 0; y < s.out_rows; ++y) {
        const int64_t top = y * s.stride_rows - s.padding_rows;
        const Range rows = inside(top, s.kernel_rows, s.rate_rows, s.in_rows);
        const Element* slopes = slope + y * s.out_columns * s.channels;
        for (int64_t i = rows.first; i < rows.end; ++i) {
            const Element* seen = in + (top + i * s.rate_rows) * s.in_columns * s.channels;
            for (int64_t j = 0; j < s.kernel_columns; ++j) {
                const int64_t offset = j * s.rate_columns - s.padding_columns;
                const Range places = reached(offset, s.out_columns, s.stride_columns, s.in_columns);
                float* tap = sums + (i * s.kernel_columns + j) * s.channels;
                typename L::Floats sum[COUNT];
                for (int n = 0; n < COUNT; ++n) sum[n] = load<L>(tap + n * LANES);
                for (int64_t x = places.first; x < places.end; ++x) {
                    const Element* left = slopes + x * s.channels;
                    const Element* right = seen + (x * s.stride_columns + offset) * s.channels;
                    for (int n = 0; n < COUNT; ++n) sum[n] += load<L>(left + n * LANES) * load<L>(right + n * LANES);
                }
                for (int n = 0; n < COUNT; ++n) store<L>(tap + n * LANES, sum[n]);
            }
        }
    }
}

template <class Element>
void correlate(const Element* in, const Element* slope, float* sums, const Shape& s) {
    const int64_t blocks = s.channels / (BLOCK * WIDE);
    const int64_t vectors = (s.channels - blocks * BLOCK * WIDE) / WIDE;
    const int64_t singles = s.channels - (blocks * BLOCK + vectors) * WIDE;
    const int64_t tasks = blocks + vectors + singles;
#pragma omp parallel for collapse(2) schedule(static) num_threads(s.threads)
    for (int64_t b = 0; b < s.batch; ++b)
        for (int64_t task = 0; task < tasks; ++task) {
            const Element* image = in + b * s.in_rows * s.in_columns * s.channels;
            const Element* slopes = slope + b * s.out_rows * s.out_columns * s.channels;
            float* own = sums + b * s.kernel_rows * s.kernel_columns * s.channels;
            const auto at = [&](auto function, int64_t c) { function(image + c, slopes + c, own + c, s); };
            if (task < blocks)
                at(correlate_channels<Element, Vectors, BLOCK>, task * BLOCK * WIDE);
            else if (task < blocks + vectors)
                at(correlate_channels<Element, Vectors, 1>, (blocks * BLOCK + task - blocks) * WIDE);
            else
                at(correlate_channels<Element, Single, 1>, (blocks * BLOCK + vectors) * WIDE + task - blocks - vectors);
        }
}

}  // namespace

extern "C" {

// in: batch×in_rows×in_columns×channels; filters: kernel_rows×kernel_columns×channels; bias: channels, or null.
void convolve_float32(const float* in, const float* filters, const float* bias, float* out, const Shape* shape) {
    convolve(in, filters, bias, out, *shape);
}

void convolve_bfloat16(const uint16_t* in, const float* filters, const float* bias, uint16_t* out, const Shape* shape) {
    convolve(in, filters, bias, out, *shape);
}

// sums: batch×kernel_rows×kernel_columns×channels, one gradient of the filters for each image.
void correlate_float32(const float* in, const float* slope, float* sums, const Shape* shape) {
    correlate(in, slope, sums, *shape);
}

void correlate_bfloat16(const uint16_t* in, const uint16_t* slope, float* sums, const Shape* shape) {
    correlate(in, slope, sums, *shape);
}
}
