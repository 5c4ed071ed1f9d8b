"""What a monitor needs, wherever the log is: registry, gateway, trigger, automation."""

import time
from pathlib import Path
from typing import Any

from eventlog.settings import KafkaSettings
from monitor.admin import AdminClient
from monitor.automation import Automation
from monitor.mandate import Mandate
from monitor.published import Published
from monitor.service import guards, schedule
from monitor.settings import MonitorSettings
from monitor.task import Parts
from monitor.triggers.compose import make_datasets, make_trigger
from monitor.triggers.hooks import RetrainHooks
from registry_client import open_source


class World:
    """`document` is what the process was started with."""

    def __init__(
        self,
        document: dict[str, Any],
        settings: MonitorSettings,
        state_dir: Path,
        home: Path,
        published: Published,
    ) -> None:
        """Raises: InvalidTrigger."""
        self.document, self.settings = document, settings
        self.state_dir, self.home, self.published = state_dir, home, published
        repository = document.get("model_repository", "")
        self.source = open_source(Path(document["registry_dir"]), repository)
        self._gateway = AdminClient(document["admin_urls"], Path(document["admin_token_path"]))
        bootstrap, kafka = document.get("bootstrap", ""), document.get("kafka", {})
        retrain, broker = settings.retrain, (bootstrap, KafkaSettings(**kafka))
        self._trigger = make_trigger(retrain, settings.retrain_hook, state_dir, broker)
        self._datasets = make_datasets(retrain, state_dir, log_here=not bootstrap)
        self._hooks: list[RetrainHooks] = []

    def automate(self, parts: Parts, mandate: Mandate | None = None) -> Automation:
        settings = self.settings
        give_up_ns = round(settings.retrain.give_up_s * 1e9)
        self._hooks.append(RetrainHooks(self._trigger, self._datasets, give_up_ns))
        return Automation(
            parts.store,
            parts.actions,
            self._gateway,
            self._hooks[-1],
            guards(settings),
            rollback=settings.rollback,
            undo=settings.undo,
            advance=settings.advance,
            retrain_window_ns=round(settings.retrain_window_s * 1e9),
            clock=time.time_ns,
            mandate=mandate,
            schedule=schedule(settings.retrain),
        )

    def kill_hooks(self) -> None:
        for hooks in self._hooks:
            hooks.kill()
