"""What a file of this package declares: the plug-in that makes a workflow known."""

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True)
class WorkflowDefinition:
    """A workflow that can be started by its name."""

    name: str
    """As in StartWorkflow and in Temporal; never changed, because running workflows are found by it."""
    input: type[msgspec.Struct]
    """What StartWorkflow's input must fit. New fields come with a default: old runs do not have them."""
    run: type
    """The class with `@workflow.defn(name=...)` of the same name."""
