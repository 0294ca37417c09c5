"""EC2's word that an instance will be taken away, listened for in the background.

A notice comes about two minutes ahead, and not always; a recommendation to move may come earlier. Both are asked for
every few seconds, for nothing announces them.
"""

from collections.abc import Callable

from orchestrator.agent.imds import InstanceMetadata, Interruption, MetadataError

ASK_EVERY_S = 5.0
SILENT_AFTER = 6
"""Questions in a row without an answer, after which that is told: from then on an interruption comes unannounced."""


class InterruptionWatch:
    """Work in the background, until an interruption was announced: nothing comes after that."""

    def __init__(
        self,
        metadata: InstanceMetadata,
        interrupted: Callable[[Interruption], None],
        at_risk: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self._metadata = metadata
        self._interrupted, self._at_risk, self._tell = interrupted, at_risk, tell
        self._risk_told = False
        self._unanswered = 0

    def look(self) -> float | None:
        """Ask once; returns after how many seconds to ask again, or None when there is nothing more to learn."""
        try:
            notice = self._metadata.interruption()
            if notice is not None:
                self._interrupted(notice)
                return None
            if not self._risk_told and self._metadata.rebalance_recommended():
                self._risk_told = True
                self._at_risk()
            self._unanswered = 0
        except MetadataError as error:
            self._unanswered += 1
            if self._unanswered == SILENT_AFTER:
                self._tell(f"an interruption may come unannounced: {error}")
        return ASK_EVERY_S
