// Front of PC-DARTS' channel shuffle: the mixed and the passed channels side by side, then dealt out over the groups.
//
// shuffle_channels
//   mixed    [N, M, H, W]
//   passed   [N, P, H, W], M + P a multiple of `groups`
//   returns  [N, M + P, H, W], channels last: channel j*groups + g is channel g*(M + P)/groups + j of the two in a row
#pragma once

#include "../aten/tensor.h"

namespace nasfast {

at::Tensor shuffle_channels(const at::Tensor& mixed, const at::Tensor& passed, int64_t groups);

}  // namespace nasfast
