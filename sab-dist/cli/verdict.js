/** How a verb ends that did its work, said what it found on stdout, and says it by its exit status too. */
export class Verdict extends Error {
    exit;
    /** `exit`: one of EXIT. */
    constructor(exit) {
        super(`exit status ${exit}`);
        this.exit = exit;
    }
}
//# sourceMappingURL=verdict.js.map