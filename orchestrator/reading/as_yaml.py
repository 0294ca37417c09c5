"""Values as YAML."""

from typing import Any


def to_yaml(data: Any) -> str:
    """Plain values as YAML, in the order that they have."""
    import io

    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 10_000  # no folding: one value, one line
    yaml.representer.sort_base_mapping_type_on_output = False
    text = io.StringIO()
    yaml.dump(data, text)
    return text.getvalue()
