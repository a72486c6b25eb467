/** Groups that run and could not get the volumes that they are configured with: they are tried again until they can. */
import { toAfterimageError, type AfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import type { Clock } from './clock.js';
import { retry } from './retry.js';
import type { Reshaped } from './volume_changes.js';

interface Refused {
  /** Of the last attempt. */
  error: AfterimageError;
  enough: AbortController;
  /** Never rejects. */
  over: Promise<void>;
}

export class Reshapings {
  private readonly refused = new Map<string, Refused>();

  constructor(
    private readonly clock: Clock,
    /** Aborted when no group gets other volumes any more. */
    private readonly stopping: AbortSignal,
  ) {}

  /** Why a group has other volumes than it is configured with; null: it has those, as far as anybody tried. */
  refusal(group: string): AfterimageError | null {
    return this.refused.get(group)?.error ?? null;
  }

  /** Errors: of the first attempt, which is followed by others then. */
  async take(group: string, reshape: () => Promise<Reshaped>, log: Log): Promise<Reshaped> {
    try {
      return await reshape();
    } catch (thrown) {
      const enough = new AbortController();
      const refused = { error: toAfterimageError(thrown), enough, over: Promise.resolve() };
      this.refused.set(group, refused);
      refused.over = this.tryAgain(group, refused, reshape, log);
      throw thrown;
    }
  }

  /** Something else is wanted of the group, or nothing any more. Resolves when nobody tries. */
  async giveUp(group: string): Promise<void> {
    const refused = this.refused.get(group);
    refused?.enough.abort();
    await refused?.over;
  }

  private async tryAgain(
    group: string,
    refused: Refused,
    reshape: () => Promise<Reshaped>,
    log: Log,
  ): Promise<void> {
    const attempt = async (): Promise<AfterimageError | null> => {
      try {
        const { added, leaving } = await reshape();
        log.info({ added, leaving }, 'the group has the volumes that it is configured with after all');
        return null;
      } catch (thrown) {
        return (refused.error = toAfterimageError(thrown));
      }
    };
    const failed = ({ code, message }: AfterimageError): void =>
      log.warn({ code }, `the group still goes on with the volumes that it had: ${message}`);
    await retry(attempt, failed, this.clock, AbortSignal.any([this.stopping, refused.enough.signal]));
    this.refused.delete(group);
  }
}
