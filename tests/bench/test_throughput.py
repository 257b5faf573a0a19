"""The speed of a network that a forecast needs is really measured, once."""

import math

from maskalign import cost, forecast, throughput
from maskalign.study import Study


def test_a_network_is_measured_once_and_then_known(demo, tmp_path):
    """The real measurement, of the smallest network of the demo."""
    demo["experiments"] = {"svhn": demo["experiments"]["svhn"]}
    demo["artefacts"] = {"tables": {}, "figures": {}}
    study, file, said = Study(demo), tmp_path / "throughput.csv", []
    throughput.measure_study(study, file, say=said.append)
    throughput.measure_study(study, file, say=said.append)
    assert said[1] == "resnet20 x1 on digits: measured before"
    speeds = cost.Throughput([file])
    (device,) = speeds.devices
    runs = forecast.forecast(study, speeds)
    assert (runs[f"hours {device}"] > 0).all()
    assert not runs[f"memory {device}"].map(math.isnan).any()
