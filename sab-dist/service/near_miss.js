/** The word that was probably meant. */
/** The candidate nearest to `word`, when it is near enough to be a slip of the finger; otherwise null. */
export function nearMiss(word, candidates) {
    const distanceMax = word.length < 4 ? 1 : Math.ceil(word.length / 3);
    let nearest = null;
    let nearestDistance = distanceMax + 1;
    for (const candidate of candidates) {
        const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
        if (distance < nearestDistance)
            [nearest, nearestDistance] = [candidate, distance];
    }
    return nearest;
}
/** Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment). */
function editDistance(left, right) {
    const rows = [Array.from({ length: right.length + 1 }, (_, column) => column)];
    const cell = (row, column) => rows[row]?.[column] ?? Infinity;
    for (let row = 1; row <= left.length; row += 1) {
        rows.push([row]);
        for (let column = 1; column <= right.length; column += 1) {
            const substitution = cell(row - 1, column - 1) + (left[row - 1] === right[column - 1] ? 0 : 1);
            let best = Math.min(cell(row - 1, column) + 1, cell(row, column - 1) + 1, substitution);
            if (left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1]) {
                best = Math.min(best, cell(row - 2, column - 2) + 1);
            }
            rows[row]?.push(best);
        }
    }
    return cell(left.length, right.length);
}
//# sourceMappingURL=near_miss.js.map