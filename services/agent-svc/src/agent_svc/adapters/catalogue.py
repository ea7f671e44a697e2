"""The catalogue: one YAML file per agent, in a folder per category."""

from pathlib import Path

import yaml

from bizosaas_ports.agent import AgentDefinition

from ..domain.definition import read_definition
from ..domain.errors import CatalogueError

SHIPPED = Path(__file__).parent.parent / "catalogue"


def read_catalogue(folder: Path = SHIPPED) -> dict[str, AgentDefinition]:
    """All agents by id. Raises CatalogueError for the first file that is wrong, naming file and field."""
    found: dict[str, AgentDefinition] = {}
    for path in sorted(folder.glob("**/*")):
        if path.is_dir() or path.name.startswith("."):
            continue
        file = str(path.relative_to(folder.parent))
        if path.suffix != ".yaml" or path.parent.parent != folder:
            raise CatalogueError(file, "", "an agent's place is <category>/<agent>.yaml")
        agent = read_definition(_document(path, file), file=file, id=path.stem, category=path.parent.name)
        if agent.id in found:
            raise CatalogueError(file, "id", f"{agent.id!r} is in the category {found[agent.id].category} too")
        found[agent.id] = agent
    return found


def _document(path: Path, file: str) -> object:
    try:
        document: object = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CatalogueError(file, "", f"is not YAML: {' '.join(str(error).split())}") from error
    return document
