"""Money and limits: settled and held never pass a limit, whoever dies, whatever is replayed."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai_gateway.clock import ManualClock
from genai_gateway.errors import GatewayError, Limited, OutOfBudget
from genai_gateway.money.allowance import Allowance, Reservation
from genai_gateway.money.ledger import Batch, Line, Meter
from genai_gateway.money.sqlite import LEASE, SqliteLedger

BUDGET = Meter("project p", "usd", 1_000)
TOKENS = Meter("key k", "tokens", 300)
REQUESTS = Meter("key k", "requests", 40)


async def check(ledger: SqliteLedger) -> dict[tuple[str, str], int]:
    """The invariant; returns what is settled on every account."""
    settled = {}
    for balance in await ledger.balances():
        assert balance.settled >= 0
        assert balance.held >= 0
        assert balance.settled + balance.held <= balance.limit, balance
        settled[balance.account, balance.unit] = balance.settled
    return settled


class World:
    """Replicas that reserve, settle, report, die and come back, in a random order."""

    def __init__(self, seed: int, path: Path | None = None) -> None:
        self.chance = random.Random(seed)
        self.clock = ManualClock()
        self.path = path
        self.ledger = SqliteLedger(self.clock, path)
        self.names = iter(range(10_000))
        self.replicas = [self.replica() for _ in range(3)]
        self.under_way: list[tuple[Allowance, Reservation]] = []
        self.really_spent: Counter[str] = Counter()

    def replica(self) -> Allowance:
        """A new replica under a name of its own."""
        return Allowance(self.ledger, f"r{next(self.names)}", self.clock)

    async def step(self) -> None:
        """One thing happens."""
        what = self.chance.choice(
            ["reserve"] * 5 + ["settle"] * 4 + ["flush"] * 3 + ["die", "wait", "pause", "restart"]
        )
        await getattr(self, what)()
        await check(self.ledger)

    async def reserve(self) -> None:
        """Several requests at once."""
        needs = {
            BUDGET: self.chance.randint(0, 90),
            TOKENS: self.chance.randint(1, 60),
            REQUESTS: 1,
        }
        who = self.chance.choice(self.replicas)
        ids = [f"q{next(self.names)}" for _ in range(self.chance.randint(1, 4))]
        done = await asyncio.gather(
            *(who.reserve(id_, needs) for id_ in ids), return_exceptions=True
        )
        for result in done:
            if isinstance(result, Reservation):
                self.under_way.append((who, result))
            else:
                assert isinstance(result, (Limited, OutOfBudget))

    async def settle(self) -> None:
        """A request ends, sometimes dearer than was thought, sometimes told twice."""
        if not self.under_way:
            return
        who, reservation = self.under_way.pop(self.chance.randrange(len(self.under_way)))
        if who not in self.replicas:
            return
        spent: Any = {
            "usd": self.chance.randint(0, 120),
            "tokens": self.chance.randint(0, 80),
            "requests": 1,
        }
        who.settle(reservation, spent)
        if self.chance.random() < 0.2:
            who.settle(reservation, spent)

    async def flush(self) -> None:
        """A replica reports; sometimes the answer is lost and it reports again."""
        who = self.chance.choice(self.replicas)
        if self.chance.random() < 0.3:
            who._unsent = who._unsent or who._batch()
            if who._unsent is not None:
                await self.ledger.report(who._replica, who._unsent)
        await who.flush()

    async def die(self) -> None:
        """A replica is gone with all it knew; another takes its place."""
        self.replicas.remove(self.chance.choice(self.replicas))
        self.replicas.append(self.replica())

    async def wait(self) -> None:
        """A little time passes."""
        self.clock.advance(self.chance.choice([0.1, 1, 3]))

    async def pause(self) -> None:
        """So much time passes that the ledger gives up everybody for dead."""
        self.clock.advance(LEASE / 1e6 + self.chance.choice([1, 50]))

    async def restart(self) -> None:
        """The ledger itself starts again from its file."""
        if self.path is not None:
            self.ledger.close()
            self.ledger = SqliteLedger(self.clock, self.path)
            for replica in self.replicas:
                replica._ledger = self.ledger


@given(st.integers(0, 10_000))
def test_no_limit_is_ever_passed(seed: int) -> None:
    """Concurrent requests, crashes, replays and pauses: settled + held ≤ limit after every step."""

    async def run() -> None:
        world = World(seed)
        for _ in range(60):
            await world.step()
        for replica in world.replicas:
            await replica.flush()
        await check(world.ledger)
        world.ledger.close()

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(3))
def test_a_restart_of_the_ledger_changes_nothing(seed: int, tmp_path: Path) -> None:
    """The same with a file, and with the ledger starting again in between."""

    async def run() -> None:
        world = World(seed, tmp_path / "ledger.db")
        for _ in range(80):
            await world.step()
        world.ledger.close()

    asyncio.run(run())


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 4))
def test_everything_that_was_spent_is_settled(amounts: list[int], count: int) -> None:
    """Without crashes the books say exactly what was spent, and all else is free again."""

    async def run() -> None:
        clock = ManualClock()
        ledger = SqliteLedger(clock)
        budget = Meter("p", "usd", 10_000)
        replicas = [Allowance(ledger, f"r{n}", clock) for n in range(count)]
        for n, amount in enumerate(amounts):
            who = replicas[n % count]
            reservation = await who.reserve(f"q{n}", {budget: 60})
            who.settle(reservation, {"usd": amount, "tokens": 0, "requests": 1})
        for replica in replicas:
            await replica.give_back()
        (balance,) = await ledger.balances()
        assert (balance.settled, balance.held) == (sum(amounts), 0)
        ledger.close()

    asyncio.run(run())


def test_a_hundred_at_once_stay_within_the_limit() -> None:
    """Of a hundred requests that race for ten requests' worth, ten get through, on any replica."""

    async def run() -> int:
        clock = ManualClock()
        ledger = SqliteLedger(clock)
        budget = Meter("p", "usd", 1_000)
        replicas = [Allowance(ledger, f"r{n}", clock) for n in range(4)]
        tries = (replicas[n % 4].reserve(f"q{n}", {budget: 100}) for n in range(100))
        done = await asyncio.gather(*tries, return_exceptions=True)
        assert all(isinstance(d, (Reservation, OutOfBudget)) for d in done)
        return sum(isinstance(d, Reservation) for d in done)

    assert asyncio.run(run()) == 10


@pytest.mark.parametrize("order", ["replay first", "expiry first"])
def test_a_request_replayed_after_a_crash_is_charged_once(order: str) -> None:
    """A replica dies with a request under way, another one answers it: one charge under its id."""

    async def run() -> tuple[int, int]:
        clock = ManualClock()
        ledger = SqliteLedger(clock)
        budget = Meter("p", "usd", 10_000)
        dead, alive = Allowance(ledger, "dead", clock), Allowance(ledger, "alive", clock)
        await dead.reserve("same", {budget: 500})
        await dead.flush()
        if order == "expiry first":
            clock.advance(LEASE / 1e6 + 1)
        reservation = await alive.reserve("same", {budget: 500})
        alive.settle(reservation, {"usd": 30, "tokens": 0, "requests": 1})
        await alive.flush()
        clock.advance(LEASE / 1e6 + 1)
        await alive.reserve("other", {budget: 8_000})
        (balance,) = await ledger.balances()
        return balance.settled, balance.held

    settled, held = asyncio.run(run())
    assert settled == 30
    assert held > 0


def test_a_request_that_nobody_repeats_is_settled_at_what_was_set_aside() -> None:
    """A replica killed with a request under way: the ledger settles it by itself."""

    async def run() -> int:
        clock = ManualClock()
        ledger = SqliteLedger(clock)
        budget = Meter("p", "usd", 10_000)
        dead = Allowance(ledger, "dead", clock)
        await dead.reserve("lost", {budget: 500})
        await dead.flush()
        clock.advance(LEASE / 1e6 + 1)
        await Allowance(ledger, "alive", clock).reserve("other", {budget: 1})
        return (await ledger.balances())[0].settled

    assert asyncio.run(run()) == 500


def test_the_same_id_is_charged_each_time_while_nobody_dies() -> None:
    """A client that repeats its request id pays for every request."""

    async def run() -> int:
        clock = ManualClock()
        ledger = SqliteLedger(clock)
        budget = Meter("p", "usd", 10_000)
        replica = Allowance(ledger, "r", clock)
        for _ in range(5):
            reservation = await replica.reserve("same", {budget: 100})
            replica.settle(reservation, {"usd": 100, "tokens": 0, "requests": 1})
            await replica.flush()
        return (await ledger.balances())[0].settled

    assert asyncio.run(run()) == 500


def test_a_replica_cannot_spend_what_it_was_not_given() -> None:
    """A wrong report moves no more than the block that there is."""

    async def run() -> tuple[int, int]:
        clock = ManualClock()
        ledger = SqliteLedger(clock)
        budget = Meter("p", "usd", 100)
        replica = Allowance(ledger, "r", clock)
        await replica.reserve("q", {budget: 40})
        line = Line("p", "usd", budget.window(clock.now()), 1_000_000)
        await ledger.report("r", Batch(7, spent=[line]))
        (balance,) = await ledger.balances()
        return balance.settled, balance.held

    assert asyncio.run(run()) == (40, 0)


def test_windows_begin_anew() -> None:
    """A minute's requests are there again in the next minute, a month's money in the next month."""

    async def run() -> None:
        clock = ManualClock()
        allowance = Allowance(SqliteLedger(clock), "r", clock)
        minute, month = Meter("k", "requests", 1), Meter("p", "usd", 10)
        await allowance.reserve("a", {minute: 1, month: 10})
        with pytest.raises(Limited) as limited:
            await allowance.reserve("b", {minute: 1})
        assert 0 < limited.value.retry_after_s <= 60
        clock.advance(limited.value.retry_after_s)
        await allowance.reserve("c", {minute: 1})
        with pytest.raises(OutOfBudget):
            await allowance.reserve("d", {month: 10})
        clock.advance((month.window_end(clock.now()) - clock.now()) / 1e6)
        await allowance.reserve("e", {month: 10})

    asyncio.run(run())


def test_without_a_ledger_nothing_is_granted() -> None:
    """A ledger that cannot be reached refuses: limits never fail open."""

    class Gone:
        async def grant(self, *_: Any) -> Any:
            raise sqlite3.OperationalError("disk I/O error")

        async def report(self, *_: Any) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        async def balances(self) -> Any:
            return []

    async def run() -> None:
        allowance = Allowance(Gone(), "r", ManualClock())
        with pytest.raises(GatewayError) as error:
            await allowance.reserve("q", {BUDGET: 1})
        assert error.value.status == 503

    asyncio.run(run())
