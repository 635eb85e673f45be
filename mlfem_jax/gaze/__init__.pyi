from .density import (
    check_sigma as check_sigma,
    count_density as count_density,
    gaze_densities as gaze_densities,
    gaze_density as gaze_density,
    half_densities as half_densities,
    observer_weights as observer_weights,
    sigma_px_of as sigma_px_of,
)
from .fitted import DensityFit as DensityFit, fit_density as fit_density, fitted_density as fitted_density
from .frames import (
    Box as Box,
    FitRule as FitRule,
    fit as fit,
    move_box as move_box,
    move_fixations as move_fixations,
    scale_sigma as scale_sigma,
)
from .smoothing import smooth_map as smooth_map
