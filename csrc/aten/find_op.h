// A registered op, to be called through the dispatcher.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

namespace nasfast {

template <class Signature>
c10::TypedOperatorHandle<Signature> find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace nasfast
