#include "program.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace nasfast::supernet {
namespace {

class Reader {
 public:
  explicit Reader(c10::IntArrayRef code) : code_(code) {}
  int64_t next() {
    TORCH_CHECK(at_ < code_.size(), "supernet_paths: graph ends too early, after ", code_.size(), " integers");
    return code_[at_++];
  }
  int64_t next(const char* what, int64_t low, int64_t high) {
    const int64_t v = next();
    TORCH_CHECK(v >= low && v <= high, "supernet_paths: graph: ", what, " must be ", low, " to ", high, ", got ", v);
    return v;
  }
  size_t left() const { return code_.size() - at_; }

 private:
  c10::IntArrayRef code_;
  size_t at_ = 0;
};

constexpr int64_t kMany = 1 << 24;

Unit read_unit(Reader& r) {
  Unit u;
  u.kind = static_cast<UnitKind>(r.next("kind of a unit", 0, 9));
  u.kernel = static_cast<int>(r.next("kernel", 1, 7));
  u.stride = static_cast<int>(r.next("stride", 1, 2));
  u.dilation = static_cast<int>(r.next("dilation", 1, 64));
  u.before = static_cast<Act>(r.next("activation", 0, 2));
  u.after = static_cast<Act>(r.next("activation", 0, 2));
  u.c_in = r.next("channels", 1, kMany);
  u.c_out = r.next("channels", 1, kMany);
  for (int64_t* p : {&u.weight, &u.bias, &u.gamma, &u.beta}) *p = r.next("a parameter", -1, kMany);
  u.norm = r.next("a normalisation", -1, kMany);
  for (int64_t& i : u.input) i = r.next("an input of a unit", -1, kMany);
  return u;
}

void check_unit(const Unit& u, int64_t at) {
  const auto want = [&](bool ok, const char* what) {
    TORCH_CHECK(ok, "supernet_paths: graph: unit ", at, " must ", what);
  };
  const bool weighted = u.is_conv() || u.kind == UnitKind::kHead;
  want(static_cast<int64_t>(u.kind) != 2, "not be an inverted residual: write its convolutions");
  want(weighted == (u.weight >= 0), "have a weight where it is a convolution or a head, and only there");
  want((u.norm >= 0) == (u.gamma >= 0) && (u.gamma >= 0) == (u.beta >= 0),
       "have gamma, beta and a normalisation, or none of them");
  want(u.norm < 0 || u.is_conv() || u.kind == UnitKind::kNorm, "not be normalised");
  want(u.bias < 0 || (weighted && u.norm < 0), "not have a bias");
  const bool changes = u.kind == UnitKind::kConv || u.kind == UnitKind::kHead || u.kind == UnitKind::kJoin;
  want(changes || u.c_in == u.c_out, "keep its channels");
  if (u.kind == UnitKind::kPick) want(u.kernel <= 2 && u.stride == 2 && u.after == Act::kNone, "pick at stride 2");
  if (u.kind == UnitKind::kJoin) want(u.stride == 1 && u.before == Act::kNone && u.after == Act::kNone, "only join");
  if (u.kind == UnitKind::kConv) want(u.kernel % 2 == 1, "have kernel 1, 3, 5 or 7");
  if (u.kind == UnitKind::kDepthwise) {
    want(u.kernel == 3 || u.kernel == 5 || u.kernel == 7, "have a depthwise kernel of 3, 5 or 7");
    want(u.dilation == 1 || (u.dilation == 2 && u.kernel < 7), "have dilation 1, or 2 with kernel 3 or 5");
  }
  if (u.is_pool())
    want((u.kernel == 3 || (u.kernel == 2 && u.stride == 2)) && u.before == Act::kNone && u.after == Act::kNone,
         "have a window of 3, or 2 at stride 2, and no activation");
  if (u.kind == UnitKind::kNorm || u.kind == UnitKind::kHead || u.kind == UnitKind::kSum)
    want(u.stride == 1, "have stride 1");
  if (u.kind == UnitKind::kHead || u.kind == UnitKind::kSum)
    want(u.before == Act::kNone && u.after == Act::kNone, "have no activation");
  if (u.kind == UnitKind::kHead) want(u.bias >= 0, "have a bias");
}

}  // namespace

Program::Program(c10::IntArrayRef code) {
  Reader r(code);
  const int64_t U = r.next("number of units", 0, kMany), O = r.next("number of operations", 0, kMany);
  const int64_t T = r.next("number of entries", 1, kMany);
  TORCH_CHECK(static_cast<int64_t>(r.left()) >= U * Unit::kFields + O * Operation::kFields + T * 3,
              "supernet_paths: graph ends too early, after ", code.size(), " integers");
  for (int64_t i = 0; i < U; ++i) {
    units.push_back(read_unit(r));
    const Unit& u = units.back();
    check_unit(u, i);
    norms = std::max(norms, u.norm + 1);
    for (int64_t p : {u.weight, u.bias, u.gamma, u.beta}) params = std::max(params, p + 1);
  }
  for (int64_t i = 0; i < O; ++i) {
    Operation o;
    o.kind = static_cast<OperationKind>(r.next("kind of an operation", 0, 2));
    o.first_unit = r.next("first unit", 0, U);
    o.units = r.next("number of units", o.kind == OperationKind::kUnits ? 1 : 0, U - o.first_unit);
    o.c_out = r.next("channels", 1, kMany);
    o.stride = r.next("stride", 1, 2);
    for (int64_t j = 0; j < o.units; ++j)
      for (int64_t in : units[o.first_unit + j].input)
        TORCH_CHECK(in < j, "supernet_paths: graph: unit ", o.first_unit + j, " must read earlier units, got ", in);
    operations.push_back(o);
  }
  for (int64_t t = 0; t < T; ++t) {
    Entry e;
    e.kind = static_cast<EntryKind>(r.next("kind of an entry", 0, 3));
    const int64_t inputs = r.next("number of inputs", 0, kMany), choices = r.next("number of operations", 0, kMany);
    const bool right = e.kind == EntryKind::kInput       ? t == 0 && inputs == 0 && choices == 0
                       : e.kind == EntryKind::kOperation ? inputs == 1 && choices > 0
                                                         : inputs > 0 && choices == 0;
    TORCH_CHECK(right && (t > 0 || e.kind == EntryKind::kInput), "supernet_paths: graph: entry ", t,
                " must be the input, the first and only one, an operation of one input, or a sum or concatenation");
    for (int64_t i = 0; i < inputs; ++i) e.inputs.push_back(r.next("input of an entry", 0, t - 1));
    for (int64_t i = 0; i < choices; ++i) e.operations.push_back(r.next("operation of an entry", 0, O - 1));
    if (choices > 1) e.place = places++;
    entries.push_back(std::move(e));
  }
  TORCH_CHECK(r.left() == 0, "supernet_paths: graph has ", r.left(), " integers too many");
}

OutputShape Program::output() const {
  std::vector<OutputShape> shapes;
  for (const Entry& e : entries) {
    if (e.kind == EntryKind::kInput) {
      shapes.push_back({0, 0, false});
      continue;
    }
    OutputShape s = shapes[e.inputs[0]];
    if (e.kind == EntryKind::kConcat)
      for (size_t i = 1; i < e.inputs.size(); ++i) s.channels += shapes[e.inputs[i]].channels;
    if (e.kind == EntryKind::kOperation) {
      const Operation& o = operations[e.operations[0]];
      s.channels = o.c_out;
      s.halvings += o.stride == 2;
      if (o.kind == OperationKind::kUnits) {
        std::vector<int> halvings;
        for (int64_t j = 0; j < o.units; ++j) {
          const Unit& u = units[o.first_unit + j];
          const int from = u.input[0] < 0 ? shapes[e.inputs[0]].halvings : halvings[u.input[0]];
          halvings.push_back(from + (u.stride == 2));
        }
        const Unit& last = units[o.first_unit + o.units - 1];
        s = {last.c_out, halvings.back(), last.kind == UnitKind::kHead};
      }
    }
    shapes.push_back(s);
  }
  return shapes.back();
}

}  // namespace nasfast::supernet
