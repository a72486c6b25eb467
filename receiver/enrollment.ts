/** How somebody who has a token comes to have a certificate, and how whoever has one gets the next. */
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import type { IdentityKind, Joined, JoinRequest, RenewRequest, Renewed } from '../proto/access.js';
import { AfterimageError } from '../proto/errors.js';
import type { AuditLog } from '../service/audit_log.js';
import type { Log } from '../service/log.js';
import { unary } from '../service/rpc.js';
import type { Identities } from './identities.js';

/** Tokens that were tried in vain from one address within a minute, until none is looked at any more. */
const FAILURES_PER_MINUTE_MAX = 10;
const MINUTE_MS = 60_000;
/** Between two certificates of one identity: they last for a minute at the least. */
const RENEWAL_MS_MIN = 10_000;
const SOFTWARE_CHARACTERS_MAX = 64;
/** Addresses that are remembered; of more, those that failed first are forgotten. */
const ADDRESSES_MAX = 4096;

export interface EnrollmentParts {
  identities: Identities;
  /** Of the store, a UUID. */
  store: string;
  /** Cuts off whoever has connected with a certificate of that UUID. */
  cutOff: (uuid: string) => void;
  nowMs: () => number;
  audit: Pick<AuditLog, 'write'>;
  log: Log;
}

/** The handlers of enrollmentService. Errors: TOKEN_LIMIT, and those of Identities.join. */
export function enrollmentHandlers(parts: EnrollmentParts): UntypedServiceImplementation {
  const { identities, store, cutOff, audit, log } = parts;
  const failures = new Failures(parts.nowMs);
  return {
    join: unary<JoinRequest, Joined>(async ({ kind, ...attempt }, { address }) => {
      const from = address.replace(/:\d+$/, '');
      failures.check(from);
      try {
        if (!isKind(kind)) throw new AfterimageError('MESSAGE_INVALID', 'nobody can join as that');
        const { identity, certificate, replaced } = await identities.join({ ...attempt, kind });
        // Whoever had the name before is not let in any more, wherever it is.
        if (replaced !== null) cutOff(replaced);
        const { name, role } = identity;
        const software = attempt.software.slice(0, SOFTWARE_CHARACTERS_MAX);
        log.info({ kind, name, from, software }, 'joined');
        const change = { who: `${kind} ${name}`, what: 'join', with: { from, software }, outcome: 'ok' };
        await audit.write(change);
        return { kind, name, role, certificate, store };
      } catch (thrown) {
        failures.add(from);
        log.warn({ from, err: thrown }, 'a join was refused');
        throw thrown;
      }
    }),
  };
}

/** The handlers of identityService, where everybody has a certificate. Errors: RENEWAL_LIMIT, and those of Identities.renew. */
export function identityHandlers({
  identities,
  audit,
  nowMs,
}: Pick<EnrollmentParts, 'identities' | 'audit' | 'nowMs'>): UntypedServiceImplementation {
  /** When those who are known were given their last one. */
  const renewedMs = new Map<string, number>();
  return {
    renew: unary<RenewRequest, Renewed>(async ({ request }, { peer }) => {
      if (peer === null) throw new AfterimageError('IDENTITY_MISSING', 'no certificate was shown');
      const { kind, name } = identities.known(peer);
      // A signature and two writes to disk for each: nobody needs many.
      if (nowMs() - (renewedMs.get(peer) ?? -Infinity) < RENEWAL_MS_MIN)
        throw new AfterimageError('RENEWAL_LIMIT', `${kind} ${name} has a certificate that is new`);
      renewedMs.set(peer, nowMs());
      const certificate = await identities.renew(peer, request);
      await audit.write({ who: `${kind} ${name}`, what: 'renew', with: {}, outcome: 'ok' });
      return { certificate };
    }),
  };
}

function isKind(kind: string): kind is IdentityKind {
  return kind === 'host' || kind === 'operator';
}

/** When tokens were tried in vain, by address. */
class Failures {
  private readonly times = new Map<string, number[]>();

  constructor(private readonly nowMs: () => number) {}

  /** Errors: TOKEN_LIMIT. */
  check(from: string): void {
    if (this.recent(from).length >= FAILURES_PER_MINUTE_MAX)
      throw new AfterimageError(
        'TOKEN_LIMIT',
        `${FAILURES_PER_MINUTE_MAX} tokens were refused to ${from} within a minute`,
      );
  }
  add(from: string): void {
    const times = [...this.recent(from), this.nowMs()];
    this.times.delete(from);
    this.times.set(from, times);
    const [first] = this.times.keys();
    if (this.times.size > ADDRESSES_MAX && first !== undefined) this.times.delete(first);
  }
  private recent(from: string): number[] {
    return (this.times.get(from) ?? []).filter((time) => time > this.nowMs() - MINUTE_MS);
  }
}
