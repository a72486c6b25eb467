export class Deliveries {
    group;
    taker = null;
    isOwed = false;
    constructor(group) {
        this.group = group;
    }
    /** As CaptureGroup.next(). One call at a time. */
    next() {
        return new Promise((resolve, reject) => {
            this.taker = { resolve, reject };
            if (this.isOwed)
                return;
            this.isOwed = true;
            this.group.next().then((delivery) => {
                const taker = this.answered();
                if (taker !== null)
                    taker.resolve(delivery);
                else if (delivery?.kind === 'frame')
                    delivery.release();
            }, (error) => this.answered()?.reject(error));
        });
    }
    /** Whoever called next() wants nothing any more. */
    forsake() {
        this.taker = null;
    }
    answered() {
        const { taker } = this;
        this.taker = null;
        this.isOwed = false;
        return taker;
    }
}
//# sourceMappingURL=deliveries.js.map