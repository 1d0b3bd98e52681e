// Dense CRFs on the permutohedral lattice: building it, filtering, and mean-field inference.
//
// Values of a pixel or of a vertex lie together in rows of whole vectors (S numbers). The values of a vertex are summed
// up from its pixels in registers; blurs walk along chains of neighbors in place; the sums of all kernels at a pixel,
// its scores and the softmax are one step. Sums are added in the order of pixels, so results do not depend on the
// number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#ifdef __F16C__
#include <immintrin.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#else
inline int omp_get_thread_num() { return 0; }
inline int omp_get_num_threads() { return 1; }
#endif

namespace {

constexpr int LANES = 8;
typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));

// Half precision where the processor turns it into float32 by itself; elsewhere it is not offered.
#if defined(__F16C__)
typedef uint16_t Half;
#else
typedef float Half;
#endif

Floats load(const float* from) {
    Floats values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

void store(float* to, Floats values) { std::memcpy(to, &values, sizeof values); }

#if defined(__F16C__)
Floats load(const Half* from) {
    __m128i halves;
    std::memcpy(&halves, from, sizeof halves);
    return Floats(_mm256_cvtph_ps(halves));
}

void store(Half* to, Floats values) {
    const __m128i halves = _mm256_cvtps_ph(__m256(values), _MM_FROUND_TO_NEAREST_INT);
    std::memcpy(to, &halves, sizeof halves);
}
#endif

Floats all(float value) { return Floats{} + value; }

// Within 2 units in the last place; 0 below -87.
Floats exponential(Floats x) {
    const Floats low = all(-87.0f);
    const Ints alive = x > low;
    x = x > low ? x : low;
    const Floats magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
    const Floats count = (x * 1.44269504088896341f + magic) - magic;
    const Floats rest = x - count * 0.693359375f + count * 2.12194440e-4f;
    Floats y = all(1.9875691500e-4f);
    y = y * rest + 1.3981999507e-3f;
    y = y * rest + 8.3334519073e-3f;
    y = y * rest + 4.1665795894e-2f;
    y = y * rest + 1.6666665459e-1f;
    y = y * rest + 5.0000001201e-1f;
    y = y * rest * rest + rest + 1.0f;
    const Ints exponent = (__builtin_convertvector(count, Ints) + 127) << 23;
    Floats power;
    std::memcpy(&power, &exponent, sizeof power);
    const Floats result = y * power;
    return alive ? result : Floats{};
}

// The numbers of a vector, those half, a quarter and an eighth of its length away.
template <int DISTANCE>
Floats turned(Floats values) {
    const Ints places = {0 ^ DISTANCE, 1 ^ DISTANCE, 2 ^ DISTANCE, 3 ^ DISTANCE,
                         4 ^ DISTANCE, 5 ^ DISTANCE, 6 ^ DISTANCE, 7 ^ DISTANCE};
#if defined(__clang__)
    return __builtin_shufflevector(values, values, 0 ^ DISTANCE, 1 ^ DISTANCE, 2 ^ DISTANCE, 3 ^ DISTANCE, 4 ^ DISTANCE,
                                   5 ^ DISTANCE, 6 ^ DISTANCE, 7 ^ DISTANCE);
#else
    return __builtin_shuffle(values, places);
#endif
}

Floats larger(Floats one, Floats other) { return one > other ? one : other; }

// The largest number and the sum of all, in every place.
Floats largest(Floats values) {
    values = larger(values, turned<4>(values));
    values = larger(values, turned<2>(values));
    return larger(values, turned<1>(values));
}

Floats sum(Floats values) {
    values += turned<4>(values);
    values += turned<2>(values);
    return values + turned<1>(values);
}

uint64_t hash(uint64_t key) {
    key *= 0x9e3779b97f4a7c15ull;
    return key ^ (key >> 32);
}

// Numbers of keys in the order in which they came first.
class Table {
public:
    explicit Table(size_t expected) {
        size_t capacity = 1024;
        while (capacity < 2 * expected) capacity *= 2;
        slots_.resize(capacity, Slot{EMPTY, 0});
    }

    void prefetch(uint64_t key) const { __builtin_prefetch(&slots_[hash(key) & (slots_.size() - 1)]); }

    int32_t insert(uint64_t key) {
        if (2 * keys.size() >= slots_.size()) grow();
        Slot& slot = find(key);
        if (slot.key == EMPTY) {
            slot = {key, int32_t(keys.size())};
            keys.push_back(key);
        }
        return slot.number;
    }

    // -1 if there is none.
    int32_t number(uint64_t key) const {
        const Slot& slot = const_cast<Table*>(this)->find(key);
        return slot.key == EMPTY ? -1 : slot.number;
    }

    std::vector<uint64_t> keys;

private:
    struct Slot {
        uint64_t key;
        int32_t number;
    };
    static constexpr uint64_t EMPTY = ~0ull;

    Slot& find(uint64_t key) {
        size_t place = hash(key) & (slots_.size() - 1);
        while (slots_[place].key != key && slots_[place].key != EMPTY) place = (place + 1) & (slots_.size() - 1);
        return slots_[place];
    }

    void grow() {
        slots_.assign(2 * slots_.size(), Slot{EMPTY, 0});
        for (size_t number = 0; number < keys.size(); ++number) find(keys[number]) = {keys[number], int32_t(number)};
    }

    std::vector<Slot> slots_;
};

constexpr int MOST_PARTS = 8;
constexpr int MOST_CORNERS = 16;

// A lattice while it is built: keys are shared out among tables by their hash, one for each thread.
struct Builder {
    int64_t pixels, corners, parts;
    int64_t steps[MOST_CORNERS];  // what a step along each axis adds to a key
    std::vector<Table> tables;
    int64_t first[MOST_PARTS + 1];  // number of the first vertex of each table

    int part(uint64_t key) const { return int((hash(key) >> 40) * uint64_t(parts) >> 24); }

    int32_t number(uint64_t key) const {
        const int own = part(key);
        const int32_t local = tables[own].number(key);
        return local < 0 ? -1 : int32_t(first[own] + local);
    }
};

// Multiplications and additions are rounded one by one: fused, a pixel may fall into another simplex than PyTorch's.
#if defined(__clang__)
#pragma clang fp contract(off)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#endif

// One pixel's barycentric weights, and the keys of its corners.
void embed(const float* feature, int d, const float* scales, float down, const int64_t* low, const int64_t* strides,
           int64_t total_stride, float* shares, uint64_t* keys) {
    float elevated[MOST_CORNERS], nearest[MOST_CORNERS], gaps[MOST_CORNERS] = {};
    int rank[MOST_CORNERS] = {};
    float total = 0;
    for (int i = d; i > 0; --i) {
        const float scaled = feature[i - 1] * scales[i - 1];
        elevated[i] = total - scaled * float(i);
        total = total + scaled;
    }
    elevated[0] = total;
    int excess = 0;
    for (int i = 0; i <= d; ++i) {
        const float rounded = std::nearbyint(elevated[i] * down);
        nearest[i] = rounded * float(d + 1);
        excess += int(rounded);
    }
    for (int i = 0; i < d; ++i)
        for (int j = i + 1; j <= d; ++j) {
            const bool less = elevated[i] - nearest[i] < elevated[j] - nearest[j];
            rank[i] += less;
            rank[j] += !less;
        }
    for (int i = 0; i <= d; ++i) {
        rank[i] += excess;
        const int back = (d + 1) * ((rank[i] < 0) - (rank[i] > d));
        rank[i] += back;
        nearest[i] += float(back);
        gaps[d - rank[i]] = (elevated[i] - nearest[i]) * down;
    }
    shares[0] = gaps[0] + (1 - gaps[d]);
    for (int i = 1; i <= d; ++i) shares[i] = gaps[i] - gaps[i - 1];
    int64_t base = 0;
    int64_t by_rank[MOST_CORNERS] = {};
    for (int i = 0; i < d; ++i) {
        base += (int64_t(nearest[i]) - low[i]) * strides[i];
        by_rank[rank[i]] += strides[i];
    }
    int64_t key = base;
    for (int r = 0; r <= d; ++r) {
        if (r > 0) key += total_stride - (d + 1) * by_rank[d + 1 - r];
        keys[r] = uint64_t(key);
    }
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

}  // namespace

// Matches the structure in native_backend.py.
struct Embedding {
    int64_t pixels, dimensions, threads;
    const float* scales;      // d
    float down;               // 1 / (d + 1)
    const int64_t *low, *strides;  // d: least coordinate, and what one more adds to a key
};

// Finds corners and their weights, pixels×(d+1); features are d×pixels. Returns what finish needs, and the number of
// vertices.
extern "C" void* begin_lattice(const Embedding* e, const float* features, int32_t* vertices, float* shares,
                               int64_t* size) {
    const int d = int(e->dimensions);
    const int64_t n = e->pixels, corners = d + 1;
    auto* builder = new Builder;
    builder->pixels = n;
    builder->corners = corners;
    builder->parts = std::min<int64_t>(e->threads, MOST_PARTS);
    int64_t total_stride = 0;
    for (int i = 0; i < d; ++i) total_stride += e->strides[i];
    for (int axis = 0; axis <= d; ++axis)
        builder->steps[axis] = total_stride - (axis < d ? corners * e->strides[axis] : 0);
    const std::unique_ptr<uint64_t[]> room(new uint64_t[n * corners]);
    uint64_t* keys = room.get();
#pragma omp parallel for schedule(static) num_threads(e->threads)
    for (int64_t p = 0; p < n; ++p) {
        float feature[MOST_CORNERS];
        for (int i = 0; i < d; ++i) feature[i] = features[i * n + p];
        embed(feature, d, e->scales, e->down, e->low, e->strides, total_stride, shares + p * corners,
              keys + p * corners);
    }
    const int64_t parts = builder->parts;
    for (int64_t part = 0; part < parts; ++part) builder->tables.emplace_back(size_t(n * corners / 4 / parts));
#pragma omp parallel for schedule(static, 1) num_threads(e->threads)
    for (int64_t part = 0; part < parts; ++part) {
        Table& table = builder->tables[part];
        uint64_t before[MOST_CORNERS];
        int32_t known[MOST_CORNERS];
        std::fill(before, before + corners, ~0ull);
        constexpr int64_t AHEAD = 96;
        for (int64_t i = 0; i < n * corners; ++i) {
            if (i + AHEAD < n * corners && keys[i + AHEAD] != keys[i + AHEAD - corners]) table.prefetch(keys[i + AHEAD]);
            const int corner = int(i % corners);
            if (keys[i] != before[corner]) {  // most neighboring pixels lie in one simplex
                before[corner] = keys[i];
                known[corner] = builder->part(keys[i]) == part ? table.insert(keys[i]) | int32_t(part << 28) : -1;
            }
            if (known[corner] >= 0) vertices[i] = known[corner];
        }
    }
    builder->first[0] = 0;
    for (int64_t part = 0; part < parts; ++part)
        builder->first[part + 1] = builder->first[part] + int64_t(builder->tables[part].keys.size());
#pragma omp parallel for schedule(static) num_threads(e->threads)
    for (int64_t i = 0; i < n * corners; ++i)
        vertices[i] = int32_t(builder->first[vertices[i] >> 28] + (vertices[i] & 0x0fffffff));
    *size = builder->first[parts];
    return builder;
}

// Lists the pixels of every vertex with their weights, and the chains of vertices along every axis: those
// of axis a are chains[a·M] to chains[lengths[a]], in each the vertices in their order, the last one as its complement.
extern "C" void finish_lattice(void* begun, const int32_t* vertices, const float* shares, int32_t* starts,
                               int32_t* pixels, float* weights, int32_t* chains, int64_t* lengths, int64_t threads) {
    auto* builder = static_cast<Builder*>(begun);
    const int64_t corners = builder->corners, places_count = builder->pixels * corners;
    const int64_t size = builder->first[builder->parts];
    // each thread lists its share of the pixels, behind those of the threads before it
    std::vector<std::vector<int32_t>> next(threads);
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int64_t part = 0; part < threads; ++part) {
        next[part].assign(size, 0);
        const int64_t end = places_count * (part + 1) / threads;
        for (int64_t i = places_count * part / threads; i < end; ++i) ++next[part][vertices[i]];
    }
    int32_t total = 0;
    for (int64_t v = 0; v < size; ++v) {
        starts[v] = total;
        for (auto& own : next) {
            const int32_t count = own[v];
            own[v] = total;
            total += count;
        }
    }
    starts[size] = total;
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int64_t part = 0; part < threads; ++part) {
        const int64_t first = places_count * part / threads, end = places_count * (part + 1) / threads;
        int64_t pixel = first / corners, corner = first % corners;
        for (int64_t i = first; i < end; ++i) {
            const int32_t place = next[part][vertices[i]]++;
            pixels[place] = int32_t(pixel);
            weights[place] = shares[i];
            if (++corner == corners) corner = 0, ++pixel;
        }
    }
    std::vector<uint64_t> keys;
    keys.reserve(size);
    for (const Table& table : builder->tables) keys.insert(keys.end(), table.keys.begin(), table.keys.end());
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t axis = 0; axis < corners; ++axis) {
        std::vector<int32_t> after(size);
        std::vector<uint8_t> follows(size, 0);
        constexpr int64_t AHEAD = 64;
        for (int64_t v = 0; v < size; ++v) {
            if (v + AHEAD < size) {
                const uint64_t coming = keys[v + AHEAD] + uint64_t(builder->steps[axis]);
                builder->tables[builder->part(coming)].prefetch(coming);
            }
            after[v] = builder->number(keys[v] + uint64_t(builder->steps[axis]));
            if (after[v] >= 0) follows[after[v]] = 1;
        }
        int32_t* chain = chains + axis * size;
        for (int64_t head = 0; head < size; ++head) {
            if (follows[head] || after[head] < 0) continue;  // in the middle of a chain, or alone
            int32_t v = int32_t(head);
            for (; after[v] >= 0; v = after[v]) *chain++ = v;
            *chain++ = ~v;
        }
        lengths[axis] = chain - (chains + axis * size);
    }
    delete builder;
}

// Matches the structure in native_backend.py: a kernel over the pixels, normalized.
struct Kernel {
    int64_t size, corners;
    const int32_t *vertices, *starts, *pixels;  // pixels×corners; size + 1; by vertex
    const float *into, *out_of;                 // weights of splatting, by vertex, and of slicing, pixels×corners
    const int32_t* chains;
    const int64_t* lengths;
};

namespace {

// A share of some work for one of several threads.
struct Share {
    int64_t first, end;
    Share(int64_t work, int64_t part, int64_t parts) : first(work * part / parts), end(work * (part + 1) / parts) {}
};

// Asks for the lines of memory that a row lies in.
template <int BLOCKS, class Element>
void ask(const Element* row) {
    __builtin_prefetch(row);
    if (BLOCKS * LANES * sizeof(Element) > 32) __builtin_prefetch(row + BLOCKS * LANES - 1);
}

// Every vertex becomes the weighted sum of the rows of its pixels.
template <int BLOCKS, class Element>
void splat(const Kernel& k, const Element* rows, Element* grid, Share own) {
    constexpr int64_t AHEAD = 64;
    const int64_t end = k.starts[own.end];
    for (int64_t v = own.first; v < own.end; ++v) {
        Floats sums[BLOCKS];
        for (int b = 0; b < BLOCKS; ++b) sums[b] = Floats{};
        for (int64_t i = k.starts[v]; i < k.starts[v + 1]; ++i) {
            if (i + AHEAD < end) ask<BLOCKS>(rows + int64_t(k.pixels[i + AHEAD]) * BLOCKS * LANES);
            const Element* row = rows + int64_t(k.pixels[i]) * BLOCKS * LANES;
            for (int b = 0; b < BLOCKS; ++b) sums[b] += k.into[i] * load(row + b * LANES);
        }
        for (int b = 0; b < BLOCKS; ++b) store(grid + (v * BLOCKS + b) * LANES, sums[b]);
    }
}

// Every vertex gets half of the vertex before it and half of the one after it, in place. A thread begins with the first
// chain that starts in its share.
template <int BLOCKS, class Element>
void blur(const int32_t* chain, int64_t length, Element* grid, Share own) {
    constexpr int64_t AHEAD = 64;
    int64_t i = own.first;
    if (i > 0)
        while (i < length && chain[i - 1] >= 0) ++i;
    const auto place = [&](int64_t at) {
        const int32_t v = chain[at];
        return grid + int64_t(v < 0 ? ~v : v) * BLOCKS * LANES;
    };
    while (i < own.end) {
        Floats before[BLOCKS], here[BLOCKS];
        Element* row = place(i);
        for (int b = 0; b < BLOCKS; ++b) {
            before[b] = Floats{};
            here[b] = load(row + b * LANES);
        }
        for (; chain[i] >= 0; ++i) {
            if (i + AHEAD < length) ask<BLOCKS>(place(i + AHEAD));
            Element* next = place(i + 1);
            for (int b = 0; b < BLOCKS; ++b) {
                const Floats after = load(next + b * LANES);
                store(row + b * LANES, here[b] + 0.5f * (before[b] + after));
                before[b] = here[b];
                here[b] = after;
            }
            row = next;
        }
        if (i + AHEAD < length) ask<BLOCKS>(place(i + AHEAD));
        for (int b = 0; b < BLOCKS; ++b) store(row + b * LANES, here[b] + 0.5f * before[b]);
        ++i;
    }
}

// What a pixel gets from its corners.
template <int BLOCKS, class Element>
void slice(const Kernel& k, const Element* grid, int64_t p, Floats* sums) {
    constexpr int64_t AHEAD = 3;  // pixels; there are some beyond the last one
    const int32_t* corners = k.vertices + p * k.corners;
    const float* weights = k.out_of + p * k.corners;
    for (int b = 0; b < BLOCKS; ++b) sums[b] = Floats{};
    for (int64_t r = 0; r < k.corners; ++r) {
        ask<BLOCKS>(grid + int64_t(corners[r + AHEAD * k.corners]) * BLOCKS * LANES);
        const Element* row = grid + int64_t(corners[r]) * BLOCKS * LANES;
        for (int b = 0; b < BLOCKS; ++b) sums[b] += weights[r] * load(row + b * LANES);
    }
}

// Splat and blur, by all threads of a parallel region. Numbers lie in groups of BLOCKS·LANES, each
// for all pixels or vertices.
template <int BLOCKS, class Element>
void spread(const Kernel& k, const Element* rows, Element* grid, int64_t pixels, int64_t groups, bool reversed,
            int64_t thread, int64_t threads) {
    const auto cut = [&](int64_t part) {  // vertices are shared out by their pixels
        const int32_t wanted = int32_t(int64_t(k.starts[k.size]) * part / threads);
        return part == threads ? k.size : std::lower_bound(k.starts, k.starts + k.size, wanted) - k.starts;
    };
    Share own(0, 0, 1);
    own.first = cut(thread);
    own.end = cut(thread + 1);
    for (int64_t group = 0; group < groups; ++group) {
        Element* values = grid + group * k.size * BLOCKS * LANES;
        splat<BLOCKS>(k, rows + group * pixels * BLOCKS * LANES, values, own);
        for (int64_t number = 0; number < k.corners; ++number) {
            const int64_t axis = reversed ? k.corners - 1 - number : number;
#pragma omp barrier
            const Share chains(k.lengths[axis], thread, threads);
            blur<BLOCKS>(k.chains + axis * k.size, k.lengths[axis], values, chains);
        }
#pragma omp barrier
    }
}

// Calls a function with a number of blocks as a constant.
template <class Function>
void with_blocks(int64_t blocks, Function function) {
    if (blocks == 1) function(std::integral_constant<int, 1>{});
    if (blocks == 2) function(std::integral_constant<int, 2>{});
    if (blocks == 3) function(std::integral_constant<int, 3>{});
    if (blocks == 4) function(std::integral_constant<int, 4>{});
}

constexpr int64_t TILE = 64;  // pixels whose classes are turned from planes into rows together
constexpr float NOTHING = -1e30f;

// The softmax of a row of scores, in place.
void softmax(float* row, int64_t width) {
    Floats most = load(row);
    for (int64_t c = LANES; c < width; c += LANES) most = larger(most, load(row + c));
    const Floats top = largest(most);
    Floats total = Floats{};
    for (int64_t c = 0; c < width; c += LANES) {
        const Floats power = exponential(load(row + c) - top);
        total += power;
        store(row + c, power);
    }
    const Floats scale = 1 / sum(total);
    for (int64_t c = 0; c < width; c += LANES) store(row + c, load(row + c) * scale);
}

}  // namespace

// Matches the structure in native_backend.py. A pixel has groups of blocks of LANES numbers each.
struct Problem {
    int64_t pixels, classes, groups, blocks, kernels, iterations, threads;
    const float* weights;  // kernels×(groups·blocks·LANES): what a class gains
    float* rows;           // room for the scores, pixels×(groups·blocks·LANES)
};

namespace {

template <int BLOCKS, class Element>
void mean_field(const Problem& m, const Kernel* kernels, const float* scores, Element* beliefs, Element* const* grids,
                float* result) {
    constexpr int64_t GROUP = BLOCKS * LANES;
    const int64_t n = m.pixels, groups = m.groups, width = groups * GROUP;
    const auto believe = [&](float* row, int64_t p) {
        softmax(row, width);
        for (int64_t group = 0; group < groups; ++group)
            for (int b = 0; b < BLOCKS; ++b)
                store(beliefs + (group * n + p) * GROUP + b * LANES, load(row + group * GROUP + b * LANES));
    };
#pragma omp parallel num_threads(m.threads)
    {
        const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        const Share own(n, thread, threads);
        std::vector<float> tile(TILE * width);
        for (int64_t first = own.first; first < own.end; first += TILE) {
            const int64_t count = std::min(TILE, own.end - first);
            for (int64_t c = 0; c < width; ++c)
                for (int64_t p = 0; p < count; ++p)
                    tile[p * width + c] = c < m.classes ? scores[c * n + first + p] : NOTHING;
            std::memcpy(m.rows + first * width, tile.data(), sizeof(float) * count * width);
            for (int64_t p = 0; p < count; ++p) believe(tile.data() + p * width, first + p);
        }
        for (int64_t iteration = 1; iteration <= m.iterations; ++iteration) {
#pragma omp barrier
            for (int64_t k = 0; k < m.kernels; ++k)
                spread<BLOCKS>(kernels[k], beliefs, grids[k], n, groups, false, thread, threads);
            for (int64_t first = own.first; first < own.end; first += TILE) {
                const int64_t count = std::min(TILE, own.end - first);
                for (int64_t p = 0; p < count; ++p) {
                    float* row = tile.data() + p * width;
                    for (int64_t group = 0; group < groups; ++group) {
                        Floats total[BLOCKS], sums[BLOCKS];
                        for (int b = 0; b < BLOCKS; ++b)
                            total[b] = load(m.rows + (first + p) * width + group * GROUP + b * LANES);
                        for (int64_t k = 0; k < m.kernels; ++k) {
                            slice<BLOCKS>(kernels[k], grids[k] + group * kernels[k].size * GROUP, first + p, sums);
                            for (int b = 0; b < BLOCKS; ++b)
                                total[b] += load(m.weights + k * width + group * GROUP + b * LANES) * sums[b];
                        }
                        for (int b = 0; b < BLOCKS; ++b) store(row + group * GROUP + b * LANES, total[b]);
                    }
                    if (iteration < m.iterations) believe(row, first + p);
                }
                if (iteration == m.iterations)
                    for (int64_t c = 0; c < m.classes; ++c)
                        for (int64_t p = 0; p < count; ++p) result[c * n + first + p] = tile[p * width + c];
            }
        }
    }
}

}  // namespace

// Scores and result are classes×pixels; beliefs have room for pixels×groups·blocks·LANES numbers, and each grid for as
// many of its vertices.
extern "C" void mean_field_float32(const Problem* m, const Kernel* kernels, const float* scores, float* beliefs,
                                   float* const* grids, float* result) {
    with_blocks(m->blocks, [&](auto blocks) {
        mean_field<decltype(blocks)::value>(*m, kernels, scores, beliefs, grids, result);
    });
}

extern "C" void mean_field_float16(const Problem* m, const Kernel* kernels, const float* scores, Half* beliefs,
                                   Half* const* grids, float* result) {
    with_blocks(m->blocks, [&](auto blocks) {
        mean_field<decltype(blocks)::value>(*m, kernels, scores, beliefs, grids, result);
    });
}

// Whether half precision is offered.
extern "C" int32_t has_half_precision() { return sizeof(Half) == 2; }

// A kernel's sums for pixels' numbers, in groups of blocks; reversed, the blurs run from the last axis to the first.
extern "C" void filter(const Kernel* k, const float* rows, float* grid, float* result, int64_t pixels, int64_t groups,
                       int64_t blocks, int32_t reversed, int64_t threads_wanted) {
    with_blocks(blocks, [&](auto constant) {
        constexpr int BLOCKS = decltype(constant)::value;
        constexpr int64_t GROUP = BLOCKS * LANES;
#pragma omp parallel num_threads(threads_wanted)
        {
            const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
            spread<BLOCKS>(*k, rows, grid, pixels, groups, reversed != 0, thread, threads);
            const Share own(pixels, thread, threads);
            for (int64_t group = 0; group < groups; ++group)
                for (int64_t p = own.first; p < own.end; ++p) {
                    Floats sums[BLOCKS];
                    slice<BLOCKS>(*k, grid + group * k->size * GROUP, p, sums);
                    for (int b = 0; b < BLOCKS; ++b)
                        store(result + (group * pixels + p) * GROUP + b * LANES, sums[b]);
                }
        }
    });
}
