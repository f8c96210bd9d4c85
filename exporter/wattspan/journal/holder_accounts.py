"""Charges and hold times into the accounts of runs, pods and owners.

Three books of the same energy: a run's, its pod's, its owner's. They are never added to one another.
Runs and pods leave when they have been gone for a while; owners stay for as long as the journal.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from wattspan.carbon.rates import Footprint
from wattspan.model import Basis, Charge, CounterKey
from wattspan.runs import Holder, HoldTime

MAX_OWNERS: Final = 200
"""Owners on one node; whoever comes later is accounted for together, under the project `OTHER_PROJECT`."""

OTHER_PROJECT: Final = "_other"
"""One for each namespace that has an owner, so that sums by namespace stay whole, and one without a namespace
for all others: namespaces come and go without end (one for each pull request), and owners stay.
"""

POD_QUANTITIES: Final = ("pod_energy", "pod_co2e", "pod_gpu", "pod_idle_gpu")
"""Accounts whose first two labels are the pod's namespace and name."""


class Add(Protocol):
    """Adds to an account, which exists from then on."""

    def __call__(self, quantity: str, labels: tuple[str, ...], amount: int | float, /) -> None: ...


class HolderAccounts:
    """Enters what holders used.

    Attributes:
        gained: what the accounts of runs have gained since this was last cleared, by run id and attempt.

    Args:
        add: to an account.
        owners: that have accounts already, as (namespace, project).
        currency: of the price per kWh; empty where there is none.
    """

    def __init__(self, add: Add, owners: Iterable[tuple[str, str]], currency: str = "") -> None:
        self._add = add
        self._owners = set(owners)
        self._namespaces = {namespace for namespace, _ in self._owners}
        self._currency = currency
        self.gained: dict[tuple[str, int], dict[CounterKey, int | float]] = {}

    def begin_run(self, run_id: str, basis: Basis | None) -> None:
        """Let the counters that every run has exist at 0."""
        self._add("run_energy", (run_id, "gpu", "exclusive"), 0)
        self._add("run_gpu", (run_id,), 0)
        self._add("run_idle_gpu", (run_id,), 0)
        if basis is not None:
            self._add("run_co2e", (run_id, "operational", basis), 0.0)
        if self._currency:
            self._add("run_cost", (run_id, self._currency), 0.0)

    def enter(self, charge: Charge, footprint: Footprint, basis: Basis | None, *, wasted: str = "") -> None:
        """Enter a charge that has a holder.

        Args:
            charge: with holder and attribution.
            footprint: what its energy came to.
            basis: of the grams; None where no intensity is known.
            wasted: the one reason for which it came to nothing; empty where it is not known to have.
        """
        grams, cost = footprint.grams, footprint.cost
        holder, attribution = charge.holder, charge.attribution
        if holder is None or attribution is None:
            return
        component, energy_uj = charge.component, charge.energy_uj
        if holder.run_id:
            self._gain(holder, "run_energy", (component, attribution), energy_uj)
            self._gain(holder, "run_facility_energy", (), footprint.facility_uj)
            self._gain(holder, "run_unpriced", (), footprint.unpriced_uj)
            if basis is not None:
                self._gain(holder, "run_co2e", ("operational", basis), grams)
            if self._currency:
                self._gain(holder, "run_cost", (self._currency,), cost)
                self._gain(holder, "run_uncosted", (), footprint.uncosted_uj)
            if component == "gpu":
                self._gain(holder, "run_gpu_energy", (charge.device,), energy_uj)
        if holder.pod.name:
            pod = (holder.pod.namespace, holder.pod.name, holder.pod.container)
            self._add("pod_energy", (*pod, component, attribution), energy_uj)
            if basis is not None:
                self._add("pod_co2e", (*pod, basis), grams)
        owner = self._owner(holder)
        self._add("owner_energy", (*owner, component), energy_uj)
        if basis is not None:
            self._add("owner_co2e", (*owner, "operational", basis), grams)
        if self._currency:
            self._add("owner_cost", (*owner, self._currency), cost)
        self._enter_configured(holder, owner, footprint)
        if wasted:
            if holder.run_id:
                self._gain(holder, "run_wasted", (), energy_uj)
                self._gain(holder, "run_cost_wasted", (self._currency,), cost)
            self.waste(holder, wasted, energy_uj, cost)

    def _enter_configured(self, holder: Holder, owner: tuple[str, str], footprint: Footprint) -> None:
        """What only some operators have figures for."""
        for of, amount in (("market_co2e", footprint.market_grams), ("water", footprint.water_liters)):
            if amount is None:
                continue
            self._add(f"owner_{of}", owner, amount)
            if holder.run_id:
                self._gain(holder, f"run_{of}", (), amount)

    def enter_time(self, time: HoldTime, embodied_g: float | None) -> None:
        """Enter GPU time, and what making the hardware emitted for it; None where that is not known."""
        holder = time.holder
        if embodied_g is not None:
            if holder.run_id:
                self._gain(holder, "run_co2e", ("embodied", "lifecycle"), embodied_g)
            self._add("owner_co2e", (*self._owner(holder), "embodied", "lifecycle"), embodied_g)
        if holder.run_id:
            self._gain(holder, "run_gpu", (), time.gpu_ns)
            self._gain(holder, "run_idle_gpu", (), time.idle_ns)
            self._gain(holder, "run_utilization", (), time.utilization_ns)
        if holder.pod.name:
            pod = (holder.pod.namespace, holder.pod.name, holder.pod.container)
            self._add("pod_gpu", pod, time.gpu_ns)
            self._add("pod_idle_gpu", pod, time.idle_ns)
        owner = self._owner(holder)
        self._add("owner_gpu", owner, time.gpu_ns)
        self._add("owner_idle_gpu", owner, time.idle_ns)

    def waste(self, holder: Holder, reason: str, energy_uj: int, cost: float) -> None:
        """Enter for the owner energy that came to nothing: idle_held, failed or repeated (steps made again).

        No joule twice: wasted energy is summed over its reasons.
        """
        owner = self._owner(holder)
        self._add("owner_wasted_energy", (*owner, reason), energy_uj)
        if self._currency:
            self._add("owner_wasted_cost", (*owner, reason, self._currency), cost)

    def _gain(self, holder: Holder, quantity: str, labels: tuple[str, ...], amount: int | float) -> None:
        """Add to an account of a run, whose first label is its id."""
        key = (quantity, (holder.run_id, *labels))
        self._add(*key, amount)
        gained = self.gained.setdefault((holder.run_id, holder.attempt), {})
        gained[key] = gained.get(key, 0) + amount

    def _owner(self, holder: Holder) -> tuple[str, str]:
        owner = (holder.pod.namespace, holder.project)
        if owner in self._owners:
            return owner
        if len(self._owners) >= MAX_OWNERS:
            namespace = holder.pod.namespace
            return (namespace if namespace in self._namespaces else "", OTHER_PROJECT)
        self._owners.add(owner)
        self._namespaces.add(holder.pod.namespace)
        return owner


def accounts_of_pod(keys: Iterable[CounterKey], namespace: str, name: str) -> list[CounterKey]:
    """The accounts that belong to a pod."""
    return [key for key in keys if key[0] in POD_QUANTITIES and key[1][:2] == (namespace, name)]
