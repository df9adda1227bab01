// Packing of convolution weights for the CPU kernels (see PackedWeights).
#pragma once

#include "../core/types.h"

namespace nasfast::mixed_op {

// Weight of a pointwise product over taps: `first` is [O][I][taps]; with `second`, rows below `split` read tap 0 with
// `first` and the others tap 1 with `second`, [split][I] and [O - split][I] (a factorized reduction).
template <class A>
struct ProductWeight {
  const A *first, *second;
  int64_t out_channels, in_channels, taps, split;

  A at(int64_t o, int64_t tap, int64_t i) const {
    if (!second) return first[(o * in_channels + i) * taps + tap];
    if (o < split) return tap == 0 ? first[o * in_channels + i] : A(0);
    return tap == 1 ? second[(o - split) * in_channels + i] : A(0);
  }
};

// product: panels [O/8][taps*Ip][8]; transposed (nullable): panels [taps*Ip/8][Op][8].
template <class A>
void pack_product(const ProductWeight<A>& w, A* product, A* transposed) {
  const int64_t Op = padded_channels(w.out_channels), Ip = padded_channels(w.in_channels), K = w.taps * Ip;
  for (int64_t ob = 0; ob < Op; ob += kLanes)
    for (int64_t t = 0; t < w.taps; ++t)
      for (int64_t ib = 0; ib < Ip; ib += kLanes) {
        const int64_t k0 = t * Ip + ib;
        A* forward = product + (ob / kLanes * K + k0) * kLanes;
        A* back = transposed ? transposed + (k0 / kLanes * Op + ob) * kLanes : nullptr;
        const bool whole = !w.second && ob + kLanes <= w.out_channels && ib + kLanes <= w.in_channels;
        for (int64_t o = 0; whole && o < kLanes; ++o) {
          const A* row = w.first + ((ob + o) * w.in_channels + ib) * w.taps + t;
          for (int64_t i = 0; i < kLanes; ++i) forward[i * kLanes + o] = row[i * w.taps];
          for (int64_t i = 0; back && i < kLanes; ++i) back[o * kLanes + i] = row[i * w.taps];
        }
        for (int64_t o = 0; !whole && o < kLanes; ++o)
          for (int64_t i = 0; i < kLanes; ++i) {
            const bool inside = ob + o < w.out_channels && ib + i < w.in_channels;
            const A v = inside ? w.at(ob + o, t, ib + i) : A(0);
            forward[i * kLanes + o] = v;
            if (back) back[o * kLanes + i] = v;
          }
      }
}

// [C][taps] -> [B][taps][8], and the same with the taps reversed.
template <class A>
void pack_depthwise(const A* w, int64_t C, int64_t taps, A* out, A* flipped) {
  for (int64_t b = 0; b < blocks_of(C); ++b)
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t l = 0; l < kLanes; ++l) {
        const int64_t c = b * kLanes + l;
        const A v = c < C ? w[c * taps + t] : A(0);
        out[(b * taps + t) * kLanes + l] = v;
        if (flipped) flipped[(b * taps + taps - 1 - t) * kLanes + l] = v;
      }
}

}  // namespace nasfast::mixed_op
