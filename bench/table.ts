/** The results as a person reads them: a line and a verdict for each bar. */
import type { Report } from './measurement.js';

const HEAD = ['name', 'ours', 'peer', 'unit', 'ratio', 'spread', 'must', 'aim', 'verdict', ''];

export function table(reports: readonly Report[]): string {
  const rows = [HEAD, ...reports.map(row)];
  const widths = HEAD.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)));
  const line = (cells: string[]): string => cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ');
  return rows.map((cells) => line(cells).trimEnd()).join('\n');
}

function row(report: Report): string[] {
  const { bar, broken } = report;
  return [
    report.name,
    shown(report.ours),
    shown(report.peer),
    report.unit,
    shown(report.ratio),
    `${shown(report.spread[0])}…${shown(report.spread[1])}`,
    bar === null ? '' : `${bar.side === 'most' ? '≤' : '≥'} ${bar.must}`,
    bar === null ? '' : `${bar.aim}`,
    verdict(report),
    [...new Set(broken)].join('; '),
  ];
}

function verdict({ holds, aimed }: Report): string {
  if (holds === null) return 'reported';
  if (!holds) return 'DOES NOT HOLD';
  return aimed === true ? 'holds, aim met' : 'holds';
}

function shown(value: number | null): string {
  if (value === null) return '–';
  return value >= 100 ? value.toFixed(0) : value.toFixed(2);
}
