"""`tf.train.Example` messages, parsed by protobuf (tensorflow/core/example/*.proto)."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

from e2vpt.errors import DataError, needs

Values = list[bytes] | list[float] | list[int]
"""The values of one feature, all of one kind."""

_DESCRIPTION = """
name: "example.proto" package: "tensorflow" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type {
  name: "Feature"
  oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL type_name: "BytesList" oneof_index: 0 }
  field { name: "float_list" number: 2 label: LABEL_OPTIONAL type_name: "FloatList" oneof_index: 0 }
  field { name: "int64_list" number: 3 label: LABEL_OPTIONAL type_name: "Int64List" oneof_index: 0 }
}
message_type {
  name: "Features"
  nested_type {
    name: "FeatureEntry"
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type_name: "Feature" }
    options { map_entry: true }
  }
  field { name: "feature" number: 1 label: LABEL_REPEATED type_name: "FeatureEntry" }
}
message_type {
  name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL type_name: "Features" }
}
"""


def parse_example(payload: bytes, where: str, wanted: Collection[str]) -> dict[str, Values]:
    """The features of a `tf.train.Example` that are `wanted`, by name; one without values is an empty list.

    Raises:
        DataError: the bytes are no such message; names `where` they come from.
        MissingExtra: protobuf is not installed.
    """
    example = _example_class()()
    try:
        example.ParseFromString(payload)
    except Exception as error:  # protobuf's DecodeError, whose module is optional.
        raise DataError(
            f"{where} is not a tf.train.Example: {error}. Download or prepare the data set again."
        ) from error
    features = example.features.feature
    return {name: _values(features[name]) for name in wanted if name in features}


def _values(feature: Any) -> Values:
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []


@functools.cache
def _example_class() -> Any:
    """The message class, in a pool of its own, since TensorFlow registers one of the same name."""
    with needs("bench", "TFDS data is parsed by protobuf"):
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_DESCRIPTION, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
