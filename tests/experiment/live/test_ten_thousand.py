"""Ten thousand requests: shares as weighted, sticky over processes, and a database that is killed in between."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter

import pytest
from scipy.stats import binomtest
from sqlalchemy import func, select

from nc_refiner.experiment import ABRefiner, Guardrails, Split
from nc_refiner.experiment.store import Store
from nc_refiner.experiment.store.schema import errors, exposures, measurements, requests

from ..conftest import Cheap

LAX = Guardrails(max_failure_rate=1.0)


def counts(url: str) -> dict[str, int]:
    store = Store(url)
    with store.engine.connect() as connection:
        found = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (requests, exposures, measurements, errors)
        }
    store.close()
    return found


@pytest.mark.parametrize("total", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_shares_stickiness_failures_and_a_killed_database(postgres, clip, tmp_path, monkeypatch, total):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    nc = Cheap(0.2, fails=lambda call: call % 2 == 0)
    weights = {"control": 0.7, "nc": 0.3}
    ab = ABRefiner({"control": Cheap(), "nc": nc}, "ten", weights, store=postgres.url, guardrails=LAX)
    outage = {total // 3: postgres.kill, 2 * total // 3: postgres.start}
    running: list[threading.Thread] = []
    for i in range(total):
        if i in outage:
            # Beside the requests, which must not notice.
            for thread in running:
                thread.join()
            running.append(threading.Thread(target=outage[i]))
            running[-1].start()
        assert ab(clip, unit=f"user-{i}", seed=i).clip is clip
    for thread in running:
        thread.join()
    assert ab.close(timeout=60)
    recorder = ab.router._recorder
    assert recorder.dropped == 0

    failed = nc.calls // 2
    store = Store(postgres.url)
    given = Counter(exposure.arm for exposure in store.exposures("ten"))
    units = {exposure.unit: exposure.arm for exposure in store.exposures("ten")}
    assert len(units) == sum(given.values()) == total
    assert given["nc"] == nc.calls
    assert binomtest(given["nc"], total, 0.3).pvalue > 0.001
    # Every request leaves seconds and error; a content loss too where the assigned arm answered.
    expected = {
        "requests": total,
        "exposures": total,
        "measurements": 3 * total - failed,
        "errors": failed,
    }
    assert counts(postgres.url) == expected
    errors_of_nc = [o.value for o in store.observations("ten") if o.metric == "error" and o.arm == "nc"]
    assert sum(errors_of_nc) == failed
    with store.engine.connect() as connection:
        ids = connection.execute(select(requests.c.seed)).scalars().all()
    assert sorted(ids) == list(range(total))
    store.close()

    code = (
        "from nc_refiner.experiment import Split; "
        "split = Split('ten', {'control': 0.7, 'nc': 0.3}); "
        f"print(''.join(split.assign(f'user-{{i}}').arm[0] for i in range({total})))"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert elsewhere == "".join(units[f"user-{i}"][0] for i in range(total))
    assert Split("ten", weights).assign("user-0").arm == units["user-0"]
