import torch

from mammo_d2.framework import ENGINE, machine


def test_facts_are_of_this_process(monkeypatch, tmp_path):
    cpu = tmp_path / "cpuinfo"
    cpu.write_text(
        "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512f amx_bf16\n\nmodel name\t: Other\n"
    )
    monkeypatch.setattr(machine, "_CPU_FACTS", cpu)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    facts = machine.machine_facts()
    assert (facts["cpu"], facts["instruction_sets"]) == ("Some CPU", ["avx2", "avx512f", "amx_bf16"])
    assert facts["threads"] == torch.get_num_threads()
    assert torch.__version__.startswith(facts["versions"]["torch"])
    assert facts["environment"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert (facts["engine"], facts["processes"]) == (ENGINE, 1)


def test_a_machine_that_does_not_tell_has_a_name_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_CPU_FACTS", tmp_path / "none")
    facts = machine.machine_facts()
    assert facts["cpu"]
    assert facts["instruction_sets"] == []
