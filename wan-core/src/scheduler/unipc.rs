use std::collections::VecDeque;

use burn::tensor::Tensor;

use super::sigmas::{GridFor, finish};
use super::{FlowSigmas, ScheduleError, Scheduler, Steps};
use crate::BurnBackend;

/// The function B(h) of UniPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SolverType {
    /// `B(h) = h`
    Bh1,
    /// `B(h) = e^h - 1`, the default
    #[default]
    Bh2,
}

/// Where a schedule ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FinalSigma {
    /// At no noise.
    #[default]
    Zero,
    /// At the last sigma of the grid, so that the last step stays where it is.
    SigmaMin,
}

/// Options of [`UniPc`]; the names are those of diffusers' `scheduler_config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct UniPcConfig {
    /// Order of the solver, 1 to 3. Default: 2.
    pub solver_order: usize,
    /// The function B(h).
    pub solver_type: SolverType,
    /// Fall back to lower orders in the last steps, which keeps few steps stable. Default: true.
    pub lower_order_final: bool,
    /// Steps after which the corrector is not run. Default: none.
    pub disable_corrector: Vec<usize>,
    /// Where the schedule ends.
    pub final_sigma: FinalSigma,
}

impl Default for UniPcConfig {
    fn default() -> Self {
        Self {
            solver_order: 2,
            solver_type: SolverType::default(),
            lower_order_final: true,
            disable_corrector: Vec::new(),
            final_sigma: FinalSigma::default(),
        }
    }
}

/// UniPC (Zhao et al. 2023, arXiv:2302.04867), the multistep predictor-corrector that Wan samples
/// with, for flow matching in its data-prediction form.
///
/// Each step converts the velocity to a prediction of the video `x0 = x - sigma v`, corrects the
/// current sample with it, and predicts the next one from the last predictions.
///
/// Timesteps are cut to whole numbers, as in both references. Coefficients are computed in f64 on
/// the host. Where the schedule ends at sigma 0, the log signal-to-noise ratio is infinite and a
/// last step of order above 1 (or `bh1`) has no finite form: the result is then the predicted video
/// itself, which is the limit of order 1.
#[derive(Debug, Clone)]
pub struct UniPc<B: BurnBackend> {
    config: UniPcConfig,
    sigmas: Vec<f32>,
    timesteps: Vec<f32>,
    step_index: usize,
    /// Predictions of the video, the newest last, at most `solver_order`.
    predictions: VecDeque<Tensor<B, 5>>,
    /// What the last predictor started from, and its order.
    last: Option<(Tensor<B, 5>, usize)>,
}

impl<B: BurnBackend> UniPc<B> {
    /// # Errors
    /// If a parameter is out of range or two sigmas are equal.
    pub fn new(
        config: UniPcConfig,
        sigmas: &FlowSigmas,
        steps: Steps,
    ) -> Result<Self, ScheduleError> {
        if !(1..=3).contains(&config.solver_order) {
            return Err(ScheduleError::SolverOrder { found: config.solver_order });
        }
        let mut levels = sigmas.levels(steps, GridFor::UniPc)?;
        if (levels[0] - 1.0).abs() < 1e-6 {
            levels[0] -= 1e-6; // ln(1 - sigma) must be finite
        }
        let last = match config.final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => levels[levels.len() - 1],
        };
        let timesteps = levels.iter().map(|sigma| (sigma * 1000.0).trunc() as f32).collect();
        Ok(Self {
            sigmas: finish(&levels, last)?,
            config,
            timesteps,
            step_index: 0,
            predictions: VecDeque::new(),
            last: None,
        })
    }

    fn order(&self) -> usize {
        let wanted = if self.config.lower_order_final {
            self.config.solver_order.min(self.timesteps.len() - self.step_index)
        } else {
            self.config.solver_order
        };
        wanted.min(self.step_index + 1)
    }

    fn sigma(&self, index: usize) -> f64 {
        f64::from(self.sigmas[index])
    }

    /// The differences of earlier predictions to the one at `index`, with their relative distances:
    /// `r_k = (lambda_k - lambda_index) / h`.
    fn distances(&self, index: usize, h: f64, order: usize) -> Vec<f64> {
        let lambda = |i| log_snr(self.sigma(i));
        (1..order).map(|k| (lambda(index - k) - lambda(index)) / h).collect()
    }

    /// UniP: from `sample` at the current sigma to the next one.
    fn predict(&self, sample: Tensor<B, 5>, order: usize) -> Tensor<B, 5> {
        let (from, to) = (self.sigma(self.step_index), self.sigma(self.step_index + 1));
        let newest = self.predictions.len() - 1;
        if to == 0.0 {
            return self.predictions[newest].clone();
        }
        let h = log_snr(to) - log_snr(from);
        if h == 0.0 {
            return sample;
        }
        let distances = self.distances(self.step_index, h, order);
        let system = System::new(self.config.solver_type, h, &distances);
        let weights = match order {
            1 => vec![],
            2 => vec![0.5], // as the references do: the exact solution is not used here
            _ => system.solve(order - 1),
        };
        let terms = weights.iter().zip(&distances).enumerate();
        let terms: Vec<_> =
            terms.map(|(k, (rho, r))| (rho / r, &self.predictions[newest - 1 - k])).collect();
        advance(sample, &self.predictions[newest], &terms, from, to, &system)
    }

    /// UniC: does the last step again, now with the prediction at its end.
    fn correct(&self, start: &Tensor<B, 5>, order: usize, now: &Tensor<B, 5>) -> Tensor<B, 5> {
        let (from, to) = (self.sigma(self.step_index - 1), self.sigma(self.step_index));
        let newest = self.predictions.len() - 1;
        let h = log_snr(to) - log_snr(from);
        let mut distances = self.distances(self.step_index - 1, h, order);
        let system = System::new(self.config.solver_type, h, &distances);
        let weights = if order == 1 { vec![0.5] } else { system.solve(order) };
        distances.push(1.0);
        let mut terms: Vec<_> = (0..order - 1)
            .map(|k| (weights[k] / distances[k], &self.predictions[newest - 1 - k]))
            .collect();
        terms.push((weights[order - 1], now));
        advance(start.clone(), &self.predictions[newest], &terms, from, to, &system)
    }
}

impl<B: BurnBackend> Scheduler<B> for UniPc<B> {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    fn step(&mut self, velocity: Tensor<B, 5>, sample: Tensor<B, 5>) -> Tensor<B, 5> {
        assert!(self.step_index < self.timesteps.len(), "all steps of the schedule are done");
        let prediction = sample.clone() - velocity * self.sigma(self.step_index);
        let sample = match &self.last {
            Some((start, order))
                if !self.config.disable_corrector.contains(&(self.step_index - 1)) =>
            {
                self.correct(start, *order, &prediction)
            }
            _ => sample,
        };
        if self.predictions.len() == self.config.solver_order {
            self.predictions.pop_front();
        }
        self.predictions.push_back(prediction);
        let order = self.order();
        let next = self.predict(sample.clone(), order);
        self.last = Some((sample, order));
        self.step_index += 1;
        next
    }
}

/// `lambda = ln(alpha / sigma)` with `alpha = 1 - sigma`.
fn log_snr(sigma: f64) -> f64 {
    (1.0 - sigma).ln() - sigma.ln()
}

/// `sigma_to / sigma_from x - alpha_to (e^-h - 1) m0 - alpha_to B(h) sum_k c_k (m_k - m0)`
fn advance<B: BurnBackend>(
    x: Tensor<B, 5>,
    m0: &Tensor<B, 5>,
    terms: &[(f64, &Tensor<B, 5>)],
    from: f64,
    to: f64,
    system: &System,
) -> Tensor<B, 5> {
    let alpha = 1.0 - to;
    let sum: f64 = terms.iter().map(|(c, _)| c).sum();
    let mut out = x * (to / from) + m0.clone() * (alpha * (system.b_h * sum - system.h_phi_1));
    for (c, m) in terms {
        out = out - (*m).clone() * (alpha * system.b_h * c);
    }
    out
}

/// The linear system for the weights of UniPC, equation (9) of the paper.
struct System {
    /// `e^-h - 1`
    h_phi_1: f64,
    b_h: f64,
    /// `R[i][k] = r_k^i`
    rows: Vec<Vec<f64>>,
    right: Vec<f64>,
}

impl System {
    fn new(solver: SolverType, h: f64, distances: &[f64]) -> Self {
        let hh = -h;
        let h_phi_1 = hh.exp_m1();
        let b_h = match solver {
            SolverType::Bh1 => hh,
            SolverType::Bh2 => h_phi_1,
        };
        let nodes: Vec<f64> = distances.iter().copied().chain([1.0]).collect();
        let mut h_phi_k = h_phi_1 / hh - 1.0;
        let mut factorial = 1.0;
        let (mut rows, mut right) = (Vec::new(), Vec::new());
        for i in 0..nodes.len() {
            rows.push(nodes.iter().map(|r| r.powi(i as i32)).collect());
            right.push(h_phi_k * factorial / b_h);
            factorial *= (i + 2) as f64;
            h_phi_k = h_phi_k / hh - 1.0 / factorial;
        }
        Self { h_phi_1, b_h, rows, right }
    }

    /// Solves the leading `n` by `n` part by elimination with pivoting; `n` is at most 3.
    fn solve(&self, n: usize) -> Vec<f64> {
        let mut a: Vec<Vec<f64>> = (0..n)
            .map(|i| self.rows[i][..n].iter().copied().chain([self.right[i]]).collect())
            .collect();
        for column in 0..n {
            let pivot =
                (column..n).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs()));
            a.swap(column, pivot.unwrap_or(column));
            for row in 0..n {
                if row != column {
                    let factor = a[row][column] / a[column][column];
                    let pivot_row = a[column].clone();
                    for (value, p) in a[row].iter_mut().zip(pivot_row).skip(column) {
                        *value -= factor * p;
                    }
                }
            }
        }
        (0..n).map(|i| a[i][n] / a[i][i]).collect()
    }
}
