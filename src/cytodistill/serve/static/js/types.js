/**
 * What the API gives, as the modules use it; `serve/schemas.py` is the source.
 *
 * @typedef {{x: number, y: number, width: number, height: number}} Box
 *
 * @typedef {object} CellSummary
 * @property {string} id
 * @property {string} upload
 * @property {string|null} field
 * @property {string} name
 * @property {Box|null} box
 * @property {number} width
 * @property {number} height
 * @property {string} added
 * @property {string} predicted
 * @property {number} confidence
 * @property {number} doubt
 * @property {number|null} abnormal
 * @property {number|null} disagreement
 * @property {string[]} exit_classes
 * @property {number} stops_at
 * @property {string|null} label
 * @property {string|null} reviewer
 *
 * @typedef {{exit: number, predicted: string, confidence: number, probabilities: Record<string, number>}} ExitAnswer
 *
 * @typedef {object} Prediction
 * @property {string} predicted
 * @property {number} confidence
 * @property {Record<string, number>} probabilities
 * @property {Record<string, number>|null} calibrated
 * @property {{name: string, coverage: number, classes: string[]}|null} set
 * @property {number} doubt
 * @property {number|null} abnormal
 * @property {number|null} disagreement
 * @property {ExitAnswer[]} exits
 * @property {number} stops_at
 *
 * @typedef {object} Review
 * @property {number} id
 * @property {string} cell
 * @property {string} reviewer
 * @property {string} at
 * @property {"accept"|"correct"|"undo"} action
 * @property {string|null} label
 * @property {string} predicted
 * @property {number|null} undoes
 *
 * @typedef {CellSummary & {run: string, prediction: Prediction, reviews: Review[]}} Cell
 *
 * @typedef {{review: Review, label: string|null, reviewer: string|null}} Reviewed
 *
 * @typedef {{total: number, offset: number, cells: CellSummary[]}} CellPage
 *
 * @typedef {object} Field
 * @property {string} id
 * @property {string} upload
 * @property {string} name
 * @property {number} width
 * @property {number} height
 * @property {boolean} image
 *
 * @typedef {object} Upload
 * @property {string} id
 * @property {"waiting"|"working"|"done"|"stopped"|"failed"} state
 * @property {string|null} detail
 * @property {string} added
 * @property {boolean} keep
 * @property {string|null} group
 * @property {number|null} total
 * @property {number} done
 * @property {{name: string, detail: string}[]} problems
 * @property {number} failed
 * @property {Field[]} fields
 *
 * @typedef {object} Model
 * @property {string} name
 * @property {string} run
 * @property {string[]} classes
 * @property {number} exits
 * @property {number} window
 * @property {"window"|"outline"} cut
 * @property {number|null} microns_per_pixel
 * @property {boolean} calibrated
 * @property {string|null} class_map
 * @property {string[]} abnormal
 * @property {Record<string, number>} operating_points
 * @property {{kind: string, thresholds: number[]}} policy
 * @property {boolean} explains
 * @property {Record<string, number>} limits
 *
 * @typedef {object} Agreement
 * @property {number} reviewed
 * @property {number} agreed
 * @property {number|null} agreement
 * @property {number|null} kappa
 * @property {string[]} classes
 * @property {number[][]} confusion
 * @property {{reviewed: number, agreement: number}[]} growth
 *
 * @typedef {{exit: number, explained: string, probability: number, empty: boolean, grid: [number, number]}} ExitMap
 *
 * @typedef {{required: boolean, signed_in: boolean, name: string|null}} Session
 */
export {};
