#pragma once

#include "core/device_types.h"

namespace faulty {

template <class T>
void launch_product(const T* a, const T* b, float* d, int depth);
void launch_count(const float* x, float* y, int blocks, int threads, int reads);
void launch_count_vectors(const float* x, float* y, int blocks, int threads);
template <class T>
void launch_convert(const float* x, T* y, float* back, int count);
void launch_warp_operations(const int* x, int* y);
void launch_arrival(unsigned* counter, int* y, int blocks, int threads);

}  // namespace faulty
