"""Tables: reading files of any usual format, kinds of columns with reasons, conversion, and checks before training."""

from nasfast.tables.convert import convert
from nasfast.tables.data import TableData
from nasfast.tables.infer import infer_schema
from nasfast.tables.overrides import parse_types
from nasfast.tables.read import Batches, open_batches, read_table
from nasfast.tables.schema import Column, Schema
from nasfast.tables.target import Target, TargetSpec, encode_target, read_target

__all__ = [
    "Batches",
    "Column",
    "Schema",
    "TableData",
    "Target",
    "TargetSpec",
    "convert",
    "encode_target",
    "infer_schema",
    "open_batches",
    "parse_types",
    "read_table",
    "read_target",
]
