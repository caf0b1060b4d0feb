"""Names of the objects in one file per photo: VOC's XML (LabelImg writes it) and labelme's JSON."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from cti.data.names import tidy
from cti.data.text import read_foreign_json, read_text


def object_names(path: Path) -> tuple[str, ...]:
    """The names of all objects in a file, `difficult` ones included, each once.

    Raises:
        ValueError: if it is neither VOC's XML nor labelme's JSON, or an object has no name; the message names the file.
    """
    names = _names_in_json(path) if path.suffix.lower() == ".json" else _names_in_xml(path)
    if "" in names:
        raise ValueError(f"{path}: object {names.index('') + 1} has no <name>; add it or remove the object.")
    return tuple(dict.fromkeys(names))


def _names_in_xml(path: Path) -> list[str]:
    return [tidy(item.findtext("name") or "") for item in _xml(path).findall("object")]


def _names_in_json(path: Path) -> list[str]:
    content = read_foreign_json(path)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise ValueError(
            f"{path} lies beside a photo, but is not labelme's JSON: it has no list 'shapes'; move it away."
        )
    return [tidy(str(shape.get("label") or "")) for shape in shapes]


def _xml(path: Path) -> ElementTree.Element:
    """The root of an XML file: by the encoding it states, else as any text."""
    try:
        try:
            return ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, LookupError, ValueError):
            return ElementTree.fromstring(read_text(path).encode("utf-8"), ElementTree.XMLParser(encoding="utf-8"))
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}, line {error.position[0]}: not valid XML ({error}); restore the file.") from error
