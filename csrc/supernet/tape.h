// One call laid out: which units run on which images, stage by stage, and where every value lies.
//
// Images come in groups of equal size; each group has a choice for every place. A group's images are cut into slices of
// a few, which are computed on their own; what is summed over slices is summed in their order. Steps of one stage do
// not depend on each other. A value is what a step gives, before its normalisation and activation; readers apply those.
#pragma once

#include "program.h"
#include "supernet_kernels.h"

namespace nasfast::supernet {

inline constexpr int kSliceImages = 4;  // fixed: sums are cut where slices are

// Where normalisation takes its statistics from.
enum class Statistics { kGroup, kOperation, kRunning };

struct Value {
  int group;
  int64_t channels;
  int h, w;
  int data;       // the value that owns the memory: itself, or the one it is a view of
  int norm = -1;  // of Tape::norms
  Act act = Act::kNone;
  bool zero = false;      // all zeros, no memory
  bool constant = false;  // has no gradient: images, or filled zeros
  bool images = false;
  bool pooled = false;  // what a head keeps: [images][blocks*8] of each slice
  // Of the owner:
  bool kept = false;    // for backward
  int64_t offset = -1;  // in the kept buffer
  int last_stage = -1;  // that reads it in the forward
  // Of those that reach the output:
  bool alive = false;
  int readers = 0;
};

enum class StepKind { kPack, kFill, kUnit, kSum, kConcat };

struct Step {
  StepKind kind;
  const Unit* unit;
  int group;
  int first_input, inputs;  // of Tape::inputs
  int out;
};

// Scale and shift behind a unit: of a BatchNorm, over the members' images together, or of a bias.
struct NormUse {
  const Unit* unit;
  int64_t channels;
  double count = 0;           // values per channel
  int64_t stats_offset = -1;  // of mean and variance; -1: a bias
  std::vector<int> members;   // steps
};

struct Stage {
  int first_step, steps;
  int first_norm, norms;
};

struct Tape {
  int64_t groups, images;  // images of a group
  int slices;              // of a group
  std::vector<Value> values;
  std::vector<Step> steps;
  std::vector<int> inputs;
  std::vector<NormUse> norms;
  std::vector<Stage> stages;
  std::vector<int> outputs;  // value of each group
  int64_t kept_elements = 0, stats_elements = 0;
  const OutputShape output;

  // `index`: [K][places]. Throws c10::Error. `keep`: for a backward.
  Tape(const Program& program, const int64_t* index, int64_t groups, int64_t images, int64_t channels, int64_t height,
       int64_t width, Statistics statistics, bool keep);

  const int* in(const Step& s) const { return inputs.data() + s.first_input; }
  int slice_images(int slice) const {
    return static_cast<int>(std::min<int64_t>(kSliceImages, images - static_cast<int64_t>(slice) * kSliceImages));
  }
  // Elements from one slice of a value to the next, and of the value.
  int64_t slice_stride(const Value& v) const;
  int64_t elements(const Value& v) const { return slices * slice_stride(v); }
  ConvShape shape(const Step& s, int slice) const;
  bool is_alive(const Step& s) const { return values[s.out].alive; }
  // By unit: whether it takes part in what the output depends on.
  std::vector<uint8_t> alive_units(const Program& program) const;

 private:
  class Builder;
};

}  // namespace nasfast::supernet
