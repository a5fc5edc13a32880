use burn::tensor::Tensor;

use super::config::SolverType;
use super::progress::{History, Progress, find};
use super::{FlowSchedule, ScheduleError, Scheduler, SchedulerConfig, SchedulerState};
use crate::BurnBackend;

/// The name of the last corrected sample in a saved state.
const SAMPLE: &str = "sample";

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
pub(super) struct UniPc<B: BurnBackend> {
    config: SchedulerConfig,
    progress: Progress,
    history: History<B>,
    /// What the last predictor started from, and its order.
    last: Option<(Tensor<B, 5>, usize)>,
}

impl<B: BurnBackend> UniPc<B> {
    pub(super) fn new(config: &SchedulerConfig, schedule: FlowSchedule) -> Self {
        let history = History::new(config.solver_order);
        Self { config: config.clone(), progress: Progress::new(schedule), history, last: None }
    }

    /// The order of the step at `index` of the schedule, when `done` steps of the run are done.
    fn order(&self, index: usize, done: usize) -> usize {
        let wanted = if self.config.lower_order_final {
            self.config.solver_order.min(self.progress.all_steps() - index)
        } else {
            self.config.solver_order
        };
        wanted.min(done + 1)
    }

    /// The differences of earlier predictions to the one at `index`, with their relative distances:
    /// `r_k = (lambda_k - lambda_index) / h`.
    fn distances(&self, index: usize, h: f64, order: usize) -> Vec<f64> {
        let lambda = |i| log_snr(self.progress.sigma(i));
        (1..order).map(|k| (lambda(index - k) - lambda(index)) / h).collect()
    }

    /// UniP: from `sample` at the current sigma to the next one.
    fn predict(&self, sample: Tensor<B, 5>, order: usize) -> Tensor<B, 5> {
        let index = self.progress.index();
        let (from, to) = (self.progress.sigma(index), self.progress.sigma(index + 1));
        if to == 0.0 {
            return self.history.back(0).clone();
        }
        let h = log_snr(to) - log_snr(from);
        if h == 0.0 {
            return sample;
        }
        let distances = self.distances(index, h, order);
        let system = System::new(self.config.solver(), h, &distances);
        let weights = match order {
            1 => vec![],
            2 => vec![0.5], // as the references do: the exact solution is not used here
            _ => system.solve(order - 1),
        };
        let terms = weights.iter().zip(&distances).enumerate();
        let terms: Vec<_> =
            terms.map(|(k, (rho, r))| (rho / r, self.history.back(k + 1))).collect();
        advance(sample, self.history.back(0), &terms, from, to, &system)
    }

    /// UniC: does the last step again, now with the prediction at its end.
    fn correct(&self, start: &Tensor<B, 5>, order: usize, now: &Tensor<B, 5>) -> Tensor<B, 5> {
        let index = self.progress.index();
        let (from, to) = (self.progress.sigma(index - 1), self.progress.sigma(index));
        let h = log_snr(to) - log_snr(from);
        let mut distances = self.distances(index - 1, h, order);
        let system = System::new(self.config.solver(), h, &distances);
        let weights = if order == 1 { vec![0.5] } else { system.solve(order) };
        distances.push(1.0);
        let mut terms: Vec<_> =
            (0..order - 1).map(|k| (weights[k] / distances[k], self.history.back(k + 1))).collect();
        terms.push((weights[order - 1], now));
        advance(start.clone(), self.history.back(0), &terms, from, to, &system)
    }
}

impl<B: BurnBackend> Scheduler<B> for UniPc<B> {
    fn timesteps(&self) -> &[f32] {
        self.progress.timesteps()
    }

    fn sigmas(&self) -> &[f32] {
        self.progress.sigmas()
    }

    fn step(&mut self, velocity: Tensor<B, 5>, sample: Tensor<B, 5>) -> Tensor<B, 5> {
        self.progress.assert_unfinished();
        let (index, done) = (self.progress.index(), self.progress.done());
        let prediction = sample.clone() - velocity * self.progress.sigma(index);
        let sample = match &self.last {
            Some((start, order)) if !self.config.disable_corrector.contains(&(index - 1)) => {
                self.correct(start, *order, &prediction)
            }
            _ => sample,
        };
        self.history.push(prediction);
        let order = self.order(index, done);
        let next = self.predict(sample.clone(), order);
        self.last = Some((sample, order));
        self.progress.advance();
        next
    }

    fn state(&self) -> Option<SchedulerState<B>> {
        let mut tensors = self.history.save();
        tensors.extend(self.last.iter().map(|(sample, _)| (SAMPLE.to_owned(), sample.clone())));
        Some(SchedulerState { steps_done: self.progress.done(), tensors })
    }

    fn restore(
        &mut self,
        steps_done: usize,
        tensors: Vec<(String, Tensor<B, 5>)>,
    ) -> Result<(), ScheduleError> {
        self.progress.restore(steps_done)?;
        self.history.restore(steps_done, &tensors)?;
        self.last = match steps_done {
            0 => None,
            done => {
                let order = self.order(self.progress.index() - 1, done - 1);
                Some((find(&tensors, SAMPLE)?, order))
            }
        };
        Ok(())
    }
}

/// `lambda = ln(alpha / sigma)` with `alpha = 1 - sigma`.
pub(super) fn log_snr(sigma: f64) -> f64 {
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
            _ => h_phi_1,
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
