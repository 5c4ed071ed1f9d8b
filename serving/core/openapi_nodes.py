"""JSON Schema nodes, short."""

from typing import Any

Node = dict[str, Any]

TEXT: Node = {"type": "string"}
FLAG: Node = {"type": "boolean"}


def obj(required: str, properties: Node, **more: Any) -> Node:
    """required: names between blanks."""
    node: Node = {"type": "object", "properties": properties, **more}
    return node | {"required": required.split()} if required else node


def closed(required: str, properties: Node) -> Node:
    """An object of ours: it has these members and no others."""
    return obj(required, properties, additionalProperties=False)


def array(items: Node, **bounds: int) -> Node:
    return {"type": "array", "items": items, **bounds}


def ref(name: str) -> Node:
    return {"$ref": f"#/components/schemas/{name}"}
