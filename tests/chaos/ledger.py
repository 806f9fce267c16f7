"""Ledger: careful clients, and a book of all that the house has accepted from them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import httpx
from redis import RedisError

from tests.chaos.house import House
from tests.chaos.wishes import Wish

PAUSE_S = 0.2
TIMEOUT = httpx.Timeout(20.0, connect=2.0)
_TRY_AGAIN = (429, 502, 503, 504)


@dataclass
class Entry:
    """One thing that was asked for, by one Idempotency-Key; accepted once it has a job."""

    wish: Wish
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    job_id: str = ""
    cancel_asked: bool = False
    cancel_told: bool = False  # the service said: it is cancelled
    answers_lost: int = 0
    refusals: int = 0


class Ledger:
    """Clients who ask again, with the same key, whenever an answer was lost or was "not now".

    So the book and the house must agree on every job in the end: none missing, none made twice.
    """

    def __init__(self, house: House, clients: int = 8) -> None:
        self._house = house
        self._http = httpx.Client(timeout=TIMEOUT, limits=httpx.Limits(max_connections=4 * clients))
        self._clients = ThreadPoolExecutor(clients, thread_name_prefix="client")
        self._lock = threading.Lock()
        self._closed = False
        self.entries: list[Entry] = []
        self.surprises: list[str] = []  # answers that no client should ever get

    def close(self) -> None:
        self._closed = True
        self._clients.shutdown(wait=True, cancel_futures=True)
        self._http.close()

    @property
    def accepted(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.job_id]

    # -- asking ---------------------------------------------------------------------------------

    def ask(self, wish: Wish) -> Entry:
        """Until it is accepted."""
        entry = Entry(wish)
        with self._lock:
            self.entries.append(entry)
        headers = {"Idempotency-Key": entry.key}
        answer = self._insist("POST", wish.path, entry, headers=headers, **wish.options())
        entry.job_id = str(answer.json()["id"]) if answer is not None and answer.is_success else ""
        return entry

    def ask_all(self, wishes: Iterable[Wish]) -> list[Future[Entry]]:
        """By all clients at once."""
        return [self._clients.submit(self.ask, wish) for wish in wishes]

    def cancel_soon(self, entry: Entry) -> Future[None]:
        return self._clients.submit(self.cancel, entry)

    def cancel(self, entry: Entry) -> None:
        """Until somebody has said what came of it."""
        entry.cancel_asked = True
        answer = self._insist("DELETE", f"/v1/jobs/{entry.job_id}", entry)
        entry.cancel_told = answer is not None and answer.json().get("status") == "cancelled"

    @contextmanager
    def custom(
        self, wishes: Iterator[Wish], *, ahead: int = 40, cancel_every: int | None = None
    ) -> Iterator[None]:
        """Steady custom for as long as the block lasts: never more than `ahead` jobs that are not over.

        Of each client every so many jobs is cancelled.
        """
        leaving = threading.Event()

        def keep_asking() -> None:
            for number in count(1):
                if leaving.is_set():
                    return
                try:
                    if self._house.open_jobs() < ahead:
                        with self._lock:
                            wish = next(wishes)
                        entry = self.ask(wish)
                        if cancel_every and number % cancel_every == 0:
                            self.cancel(entry)
                        continue
                except RedisError:  # Redis is away; who looks at it here is not who is tested
                    pass
                leaving.wait(PAUSE_S)

        askers = [self._clients.submit(keep_asking) for _ in range(4)]
        try:
            yield
        finally:
            leaving.set()
            for asker in askers:
                asker.result()

    def _insist(self, method: str, path: str, entry: Entry, **options: object) -> httpx.Response | None:
        while not self._closed:
            try:
                answer = self._http.request(method, self._house.next_url() + path, **options)
            except httpx.TransportError:
                entry.answers_lost += 1
            else:
                if answer.status_code not in _TRY_AGAIN:
                    if not answer.is_success:
                        self.surprises.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
                    return answer
                entry.refusals += 1
            time.sleep(PAUSE_S)
        return None
