"""A pytest plug-in: one line for each test, as it ends, so that a crash loses nothing (SUITES_RESULTS)."""

import os


class Recorder:
    def __init__(self, path):
        self.file = open(path, "w", buffering=1)
        self.worst = {}

    def pytest_runtest_logstart(self, nodeid):
        self.file.write(f"started {nodeid}\n")

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            outcome = "xfailed" if hasattr(report, "wasxfail") and report.outcome == "skipped" else report.outcome
            if self.worst.get(report.nodeid) != "failed":
                self.worst[report.nodeid] = outcome

    def pytest_runtest_logfinish(self, nodeid):
        self.file.write(f"{self.worst.pop(nodeid, 'nothing')} {nodeid}\n")

    def pytest_collectreport(self, report):
        if report.failed:
            self.file.write(f"failed {report.nodeid} (collection)\n")


def pytest_configure(config):
    if "SUITES_RESULTS" in os.environ:
        config.pluginmanager.register(Recorder(os.environ.pop("SUITES_RESULTS")))
