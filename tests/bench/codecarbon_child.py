"""CodeCarbon, metering until it is killed; run by the interpreter that has it, with a folder to write to."""

import sys
import time

from codecarbon import OfflineEmissionsTracker

tracker = OfflineEmissionsTracker(
    country_iso_code="FRA",
    measure_power_secs=1,
    tracking_mode="machine",
    allow_multiple_runs=True,
    save_to_file=False,
    output_dir=sys.argv[1],
    log_level="error",
)
tracker.start()
print("ready", flush=True)
while True:
    time.sleep(60)
