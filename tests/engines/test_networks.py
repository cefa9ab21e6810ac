"""Networks learn and listen; their spectrogram and their folding are exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

from learning import ENCODERS, SOUNDS, batch_of, learn_by_heart, picture_of, small, trained_a_little  # noqa: E402
from torch import nn  # noqa: E402

from avsl.demos.scenes import DRAWN, make_scene, with_sound_of  # noqa: E402
from avsl.engines.networks import Ensemble  # noqa: E402
from avsl.engines.networks.parts import fold_batch_norm  # noqa: E402
from avsl.engines.networks.small import LogMel  # noqa: E402
from avsl.train.scoring.metrics import in_box, map_peak  # noqa: E402


def test_networks_learn_to_listen() -> None:
    """Both encoders learn a few clips by heart. Then the same picture with the other thing's sound
    moves the peak there; silence, and a sound from out of view, leave the map dark."""
    cast = replace(DRAWN, families=DRAWN.families[:2], aspect=1.0, strangers=())
    silence = np.zeros(16_000, np.float32)
    rows = []
    for i in range(4):
        scene = make_scene(4, i, kind="one", count=2, cast=cast)
        picture, found = picture_of(scene)
        heard = [with_sound_of(scene, k).sound(-1, 1) for k in range(2)]
        elsewhere = DRAWN.families[7].voice(np.random.default_rng(i))(np.arange(16_000) / 16_000)
        rows += [(picture, heard[0], found[0]), (picture, heard[1], found[1])]
        rows += [(picture, silence, None), (picture, elsewhere.astype(np.float32), None)]
    torch.manual_seed(0)
    networks = [small(sound) for sound in ENCODERS]
    batch = batch_of(rows)
    losses = learn_by_heart(networks, batch, 80)
    assert losses[-1] < 0.3 * losses[0]
    ensemble = Ensemble(networks).eval()
    with torch.no_grad():
        alone = list(zip(batch[0].split(1), batch[1].split(1), strict=True))
        maps = [
            np.concatenate([network(*one).sigmoid() for one in alone])
            for network in [*networks, ensemble]
        ]
    for found in maps:
        hits = [in_box(*map_peak(found[i]), row[2]) for i, row in enumerate(rows) if row[2]]
        assert np.mean(hits) > 0.85
        assert max(found[i].max() for i, row in enumerate(rows) if not row[2]) < 0.5


@pytest.mark.parametrize("sound", ENCODERS)
@pytest.mark.parametrize("seconds", [0.5, 0.9, 1.2, 3])
def test_windows_may_have_any_length_and_their_end_counts(sound: str, seconds: float) -> None:
    torch.manual_seed(0)
    encoder = small(sound).eval().sound
    heard = encoder.front(0.1 * torch.randn(4, round(seconds * 16_000))).requires_grad_()
    embeddings = encoder(heard)
    assert embeddings.shape == (4, 32)
    embeddings.square().sum().backward()
    pull = heard.grad.abs()
    assert pull[..., -pull.shape[-1] // 8 :].mean() > 0.5 * pull.mean()


@pytest.mark.parametrize("name", SOUNDS)
def test_the_spectrogram_is_the_same_in_the_graph(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, samples = LogMel(16_000), torch.from_numpy(SOUNDS[name][None])
    by_fft = front(samples)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    by_convolution = front(samples)
    assert by_fft.shape == (1, 1, 64, 61)
    assert torch.allclose(by_fft, by_convolution, atol=2e-3)


@pytest.mark.parametrize("sound", ENCODERS)
def test_loudness_is_taken_out(sound: str) -> None:
    (network,) = trained_a_little(sound)
    samples, other = (torch.from_numpy(make_scene(1, i, kind="one").sound(-1, 1)) for i in (0, 3))
    with torch.no_grad():
        loud, soft, another = network.embed(torch.stack([samples, 0.3 * samples, other]))
    assert torch.allclose(loud, soft, atol=1e-4)
    assert not torch.allclose(loud, another, atol=1e-2)


@pytest.mark.parametrize("sound", ENCODERS)
def test_folding_batch_norm_changes_nothing(sound: str) -> None:
    (network,) = trained_a_little(sound)
    picture, samples = torch.randn(2, 3, 64, 64), torch.randn(2, 16_000)
    with torch.no_grad():
        before = network.picture(picture), network.sound(network.sound.front(samples))
        fold_batch_norm(network)
        after = network.picture(picture), network.sound(network.sound.front(samples))
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    assert not any(isinstance(m, kinds) for m in network.modules())
    for a, b in zip(before, after, strict=True):
        assert torch.allclose(a, b, atol=1e-4)
