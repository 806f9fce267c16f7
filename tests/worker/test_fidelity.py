"""Fidelity against values worked out by hand."""

import numpy as np
import pytest

from worker.fidelity import measure_fidelity

CODES = np.zeros((4, 3, 3), np.int64)


def noise(size=(20, 24)):
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def test_equal_images():
    fidelity = measure_fidelity(noise(), noise(), CODES, 9.0)
    assert fidelity.psnr_db is None
    assert fidelity.ssim == pytest.approx(1.0)


def test_psnr_is_of_8_bit_rgb():
    original = noise() // 2
    changed = original + 5
    fidelity = measure_fidelity(original, changed, CODES, 9.0)
    assert fidelity.psnr_db == pytest.approx(10 * np.log10(255**2 / 25))
    assert 0.9 < fidelity.ssim < 1.0


def test_ssim_of_unrelated_noise_is_about_zero():
    fidelity = measure_fidelity(noise(), noise()[::-1], CODES, 9.0)
    assert abs(fidelity.ssim) < 0.2


def test_an_image_below_the_window_has_no_ssim():
    small = noise((10, 40))
    assert measure_fidelity(small, small // 2, CODES, 9.0).ssim is None


def test_codes_are_counted_in_whole_bytes():
    fidelity = measure_fidelity(noise((9, 10)), noise((9, 10)) // 2, CODES, 9.0)
    assert fidelity.codes_bytes == 41  # 36 codes of 9 bits are 40.5 bytes
    assert fidelity.bits_per_pixel == pytest.approx(8 * 41 / 90)
