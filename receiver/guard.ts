/**
 * Who may call what, and what of it is written down. Every call of an operator goes through here: the tables below have all of
 * them, or this does not compile.
 */
import type { handleServerStreamingCall, handleUnaryCall } from '@grpc/grpc-js';
import { OPERATOR_ROLES, type accessService, type OperatorRole } from '../proto/access.js';
import type { receiverControlService } from '../proto/control.js';
import { AfterimageError } from '../proto/errors.js';
import type { AuditEntry, AuditLog } from '../service/audit_log.js';
import type { Log } from '../service/log.js';
import { localName } from '../service/local_caller.js';
import { serverStream, unary, type CallContext } from '../service/rpc.js';
import { toCatalogError } from './catalog/database.js';
import type { Identities } from './identities.js';

export type CallName = keyof typeof receiverControlService | keyof typeof accessService;

interface Rule {
  role: OperatorRole;
  /** What a change is called in the audit log; null: it changes nothing. */
  change: string | null;
}

const looks = (role: OperatorRole): Rule => ({ role, change: null });
const changes = (role: OperatorRole, change: string): Rule => ({ role, change });

export const RULES: Readonly<Record<CallName, Rule>> = {
  status: looks('viewer'),
  timeline: looks('viewer'),
  point: looks('viewer'),
  checkpointList: looks('viewer'),
  exportList: looks('viewer'),
  authority: looks('viewer'),
  checkpointCreate: changes('operator', 'checkpoint create'),
  // To lock and to unpin is more (control.ts).
  checkpointPin: changes('operator', 'checkpoint pin'),
  exportOpen: changes('operator', 'export open'),
  exportClose: changes('operator', 'export close'),
  recover: changes('operator', 'recover'),
  scrub: changes('operator', 'receiver scrub'),
  checkpointDelete: changes('admin', 'checkpoint delete'),
  tokenCreate: changes('admin', 'receiver token create'),
  tokenList: looks('admin'),
  tokenDelete: changes('admin', 'receiver token delete'),
  identityList: looks('admin'),
  audit: looks('admin'),
  identityRevoke: changes('admin', 'revoke'),
  hostGrant: changes('admin', 'receiver host grant'),
};

/** Who calls. */
export interface CallerIdentity {
  /** As the audit log names it: "operator anna", or "local root" by the control socket. */
  who: string;
  role: OperatorRole;
  isLocal: boolean;
}
export interface GuardedContext extends CallContext {
  caller: CallerIdentity;
}
/** Who calls. Errors: IDENTITY_*. */
export type Identify = (context: Pick<CallContext, 'peer' | 'address'>) => CallerIdentity;

/** On the control socket, which is for the user that the receiver runs as, and for root. */
export const identifyLocal: Identify = ({ address }) => ({
  who: localName(address),
  role: 'admin',
  isLocal: true,
});

/** By TLS. */
export function identifyOperators(identities: Identities): Identify {
  return ({ peer }) => {
    if (peer === null) throw new AfterimageError('IDENTITY_MISSING', 'no certificate was shown');
    const { kind, name, role } = identities.known(peer);
    if (role === 'agent') throw new AfterimageError('ROLE_INSUFFICIENT', `${kind} ${name} is no operator`);
    return { who: `${kind} ${name}`, role, isLocal: false };
  };
}

export class Guard {
  constructor(
    private readonly identify: Identify,
    private readonly audit: Pick<AuditLog, 'write'>,
    private readonly log: Log,
  ) {}

  /** The handler of a call that answers once. Errors: IDENTITY_*, ROLE_INSUFFICIENT, and those of `handle`, all with a code. */
  unary<Request extends object, Response>(
    name: CallName,
    handle: (request: Request, context: GuardedContext) => Promise<Response>,
  ): handleUnaryCall<Request, Response> {
    return unary<Request, Response>(async (request, context) => {
      const caller = this.admit(name, context);
      return this.audited(name, caller, request, async () => handle(request, { ...context, caller }));
    });
  }

  /** Of one that answers with many messages: in the audit log it begins, and ends. */
  stream<Request extends object, Response>(
    name: CallName,
    handle: (request: Request, context: GuardedContext) => AsyncGenerator<Response, void>,
  ): handleServerStreamingCall<Request, Response> {
    return serverStream<Request, Response>((request, context) =>
      this.streamed(name, request, context, handle),
    );
  }

  private async *streamed<Request extends object, Response>(
    name: CallName,
    request: Request,
    context: CallContext,
    handle: (request: Request, context: GuardedContext) => AsyncGenerator<Response, void>,
  ): AsyncGenerator<Response, void> {
    const caller = this.admit(name, context);
    await this.note(name, caller, request, 'begun');
    // Whoever goes away in the middle ends it without an error.
    let outcome = 'INTERRUPTED';
    try {
      yield* handle(request, { ...context, caller });
      outcome = 'ok';
    } catch (thrown) {
      const error = toCatalogError(thrown);
      outcome = error.code;
      throw error;
    } finally {
      await this.note(name, caller, request, outcome);
    }
  }

  private async audited<T>(
    name: CallName,
    caller: CallerIdentity,
    request: object,
    work: () => Promise<T>,
  ): Promise<T> {
    try {
      const result = await work();
      await this.note(name, caller, request, 'ok');
      return result;
    } catch (thrown) {
      const error = toCatalogError(thrown);
      await this.note(name, caller, request, error.code);
      throw error;
    }
  }

  /** Errors: ROLE_INSUFFICIENT, IDENTITY_*. */
  private admit(name: CallName, context: CallContext): CallerIdentity {
    const caller = this.identify(context);
    this.require(caller, RULES[name].role, name);
    return caller;
  }

  /** That a caller's role is enough for what a request asks, more than the call itself needs. Errors: ROLE_INSUFFICIENT. */
  require(caller: CallerIdentity, role: OperatorRole, name: CallName): void {
    if (OPERATOR_ROLES.indexOf(caller.role) >= OPERATOR_ROLES.indexOf(role)) return;
    this.log.warn({ who: caller.who, call: name }, 'a call was refused');
    const message = `${caller.who} has the role ${caller.role}; this needs ${role}`;
    throw new AfterimageError('ROLE_INSUFFICIENT', message);
  }

  private async note(
    name: CallName,
    { who }: CallerIdentity,
    request: object,
    outcome: string,
  ): Promise<void> {
    const { change } = RULES[name];
    if (change !== null) await this.audit.write({ who, what: change, with: toldOf(request), outcome });
  }
}

/** Requests hold no secrets; what says nothing is left out. */
function toldOf(request: object): AuditEntry['with'] {
  const told: AuditEntry['with'] = {};
  for (const [key, value] of Object.entries(request) as [string, unknown][]) {
    if (typeof value === 'bigint' || typeof value === 'number') told[key] = value.toString();
    else if (typeof value === 'boolean') told[key] = value;
    else if (Array.isArray(value)) told[key] = value.map(String);
    else if (typeof value === 'string' && value !== '') told[key] = value;
  }
  return told;
}
