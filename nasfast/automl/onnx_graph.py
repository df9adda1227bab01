"""A graph of ONNX that is written node by node."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasfast.errors import ExportError
from nasfast.utils.version import nasfast_version

OPSET, ML_OPSET, IR_VERSION = 20, 3, 10
"""The oldest that have what is needed: operators on texts came with opset 20."""

ML = "ai.onnx.ml"
RUNTIME = "com.microsoft"
"""Domains of operators: those of classical models, and onnxruntime's own."""

_SHARED = 1024  # bytes of a constant that is looked up before it is stored


class Graph:
    """Names of tensors are plain texts; every method that writes a node returns the name of its output.

    Raises:
        ExportError: onnx is not installed.
    """

    FLOAT, INT64, BOOL, DOUBLE = 1, 7, 9, 11  # numbers of types, as Cast takes them

    def __init__(self) -> None:
        try:
            self._onnx = importlib.import_module("onnx")
        except ImportError as error:
            raise ExportError("ONNX export needs onnx: pip install 'nasfast[onnx]'") from error
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._constants: list[Any] = []
        self._shared: dict[tuple[str, tuple[int, ...], bytes] | None, str] = {}
        self._names: set[str] = set()

    def input(self, name: str, kind: type[np.generic], width: int = 1) -> str:
        """An input [N, width]; it has another name where this one is taken already, or empty."""
        name = self._name(name or "column")
        self._inputs.append(self._value(name, kind, ["N", width]))
        return name

    def reserve(self, *names: str) -> None:
        """Keep names for outputs, before there are any inputs."""
        self._names.update(names)

    def output(self, tensor: str, name: str, kind: type[np.generic], shape: Sequence[str | int]) -> None:
        """Make a tensor an output under a reserved name."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [tensor], [name]))
        self._outputs.append(self._value(name, kind, shape))

    def constant(self, values: Any, kind: type[np.generic] | None = None) -> str:
        """An array in the file; small ones that are equal are stored once."""
        array = np.ascontiguousarray(values, dtype=kind)
        array = array.reshape(np.shape(values))  # numbers have become arrays of one
        key = (array.dtype.str, array.shape, array.tobytes()) if array.nbytes <= _SHARED else None
        if key in self._shared:
            return self._shared[key]
        name = self._name("/constant")
        if array.dtype.kind == "U":
            array = array.astype(object)
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        if key is not None:
            self._shared[key] = name
        return name

    def node(self, operator: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> str:
        """A node; of several outputs the first is named."""
        return self.add(self.bare_node(operator, *inputs, domain=domain, **attributes), outputs)

    def add(self, node: Any, outputs: int = 1) -> str:
        """Take in what :meth:`bare_node` made."""
        names = [self._name(f"/{node.op_type}") for _ in range(outputs)]
        node.output.extend(names)
        self._nodes.append(node)
        return names[0]

    def ints(self, node: Any, name: str, values: NDArray[Any]) -> None:
        """Give a node a long attribute of whole numbers; the helpers of onnx look at each of them."""
        attribute = node.attribute.add(name=name, type=self._onnx.AttributeProto.INTS)
        attribute.ints.extend(values.tolist())

    def floats(self, node: Any, name: str, values: NDArray[Any]) -> None:
        """Give a node a long attribute of numbers."""
        attribute = node.attribute.add(name=name, type=self._onnx.AttributeProto.FLOATS)
        attribute.floats.extend(values.tolist())

    def strings(self, node: Any, name: str, values: Sequence[bytes]) -> None:
        """Give a node a long attribute of texts."""
        attribute = node.attribute.add(name=name, type=self._onnx.AttributeProto.STRINGS)
        attribute.strings.extend(values)

    def bare_node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> Any:
        """A node that is given long attributes before :meth:`add`."""
        return self._onnx.helper.make_node(operator, inputs, [], domain=domain, **attributes)

    def model(self, metadata: Mapping[str, Any]) -> Any:
        """The whole as a checked ModelProto.

        Args:
            metadata: By name; what is not a text becomes JSON.

        Raises:
            ExportError: onnx finds a fault in it.
        """
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, "nasfast", self._inputs, self._outputs, self._constants)
        versions = {"": OPSET, ML: ML_OPSET, RUNTIME: 1}
        domains = sorted({node.domain for node in self._nodes})
        opsets = [helper.make_opsetid(domain, versions[domain]) for domain in domains]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        model.producer_name, model.producer_version = "nasfast", nasfast_version()
        for key, value in metadata.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            model.metadata_props.add(key=key, value=text)
        try:
            self._onnx.checker.check_model(model)
        except self._onnx.checker.ValidationError as error:
            raise ExportError(f"ONNX export failed: {str(error).strip().splitlines()[0]}") from error
        return model

    def _name(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name

    def _value(self, name: str, kind: type[np.generic], shape: Sequence[str | int]) -> Any:
        types = self._onnx.TensorProto
        element = types.STRING if kind is np.str_ else self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        return self._onnx.helper.make_tensor_value_info(name, element, shape)
