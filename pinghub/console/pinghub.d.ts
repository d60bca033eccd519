/** The types of pinghub.js. All times are in milliseconds. */

/** What a channel does; "offline" waits for the browser to be online, "closed" is for good. */
export type ChannelState = "connecting" | "open" | "waiting" | "offline" | "closed";

/** A text or nothing; nothing, null and the empty text are no token. */
export type Token = string | null | undefined;

/** A websocket as browsers have it: theirs, Node's, or the one of the package ws. */
export type WebSocketClass = new (url: string, protocols?: string[]) => {
  readonly readyState: number;
  readonly bufferedAmount: number;
  send(text: string): void;
  close(code?: number, reason?: string): void;
};

/** Numbers have to be above 0 and below 2 ** 31 (25 days, for times). */
export interface ChannelOptions {
  /**
   * After n failures in a row (attempts that failed, and connections lost), the next attempt is
   * after a random time below `minDelay * 2 ** (n - 1)`, and below `maxDelay`. It is counted from 1
   * again after a connection that lasted for 5 s. 500 unless given.
   */
  minDelay?: number;
  /** No delay is longer. 30 000 unless given. */
  maxDelay?: number;
  /**
   * An empty message is sent after so long a silence; the server answers it with another one, which
   * is not dispatched. 20 000 unless given; 0: none is sent, and no dead connection is noticed.
   */
  heartbeat?: number;
  /** If nothing arrives for so long after it, another connection is opened. 10 000 unless given. */
  deadline?: number;
  /** How long an attempt may take, asking for the token included. 10 000 unless given. */
  openTimeout?: number;
  /** `publish` refuses while more bytes than this wait to be sent. 1 048 576 unless given. */
  maxBuffered?: number;
  /**
   * Who you are, for a proxy that wants to know. A function is asked before each attempt and each
   * POST; if it fails, so does the attempt, and it is asked again before the next.
   */
  token?: Token | (() => Token | Promise<Token>);
  /**
   * Where a websocket carries it: in `?token=`, or as the subprotocol, which keeps it out of URLs.
   * A POST has it in `?token=`, or in `Authorization: Bearer`. "query" unless given.
   */
  tokenIn?: "query" | "subprotocol";
  /** In place of the global one, as in Node 20. */
  WebSocket?: WebSocketClass;
  /** In place of the global one. */
  fetch?: (url: string, init: any) => Promise<any>;
  /**
   * For tests: in place of `globalThis`. Taken from it are `setTimeout`, `clearTimeout`,
   * `Date.now`, `performance.now` and `Math.random`; and if there, `addEventListener`,
   * `removeEventListener`, `navigator.onLine`, `document`, `location`, `WebSocket` and `fetch`.
   */
  window?: object;
}

/** A message was published. Heartbeats are no messages. */
export interface ChannelMessageEvent extends Event {
  readonly data: string;
  /** When it arrived, as of `performance.now()`. */
  readonly receivedAt: number;
}

/** The channel's state has changed. */
export interface ChannelStateEvent extends Event {
  readonly state: ChannelState;
  readonly previous: ChannelState;
  /** If a connection or an attempt has ended: why (RFC 6455 section 7.4); 1006: nobody knows. */
  readonly code?: number;
  /** What was said about it; may be empty. */
  readonly reason?: string;
}

/** It is open again: messages may have been missed. */
export interface ChannelGapEvent extends Event {
  /**
   * Those published after this, a timestamp of this machine: when the connection before was last
   * heard of. They may have been on their way already; ask for those of a few seconds before, too.
   */
  readonly since: number;
}

export interface ChannelEvents {
  message: ChannelMessageEvent;
  state: ChannelStateEvent;
  gap: ChannelGapEvent;
}

/** A channel: subscribed as long as it is open, reopened whenever it is not, until `close()`. */
export class Channel extends EventTarget {
  /**
   * Connects at once.
   *
   * @param url The channel, absolute or relative to the page. http becomes ws.
   * @throws SyntaxError or TypeError if the URL is none, or of another scheme; RangeError or
   *   TypeError if an option is not as described.
   */
  constructor(url: string | URL, options?: ChannelOptions);

  readonly state: ChannelState;
  /** The URL of the websocket, without the token. */
  readonly url: string;
  /** Attempts that failed and connections lost, in a row; 0 once one has lasted for 5 s. */
  readonly attempts: number;
  /** When the next attempt begins, as a timestamp; null unless the channel is waiting. */
  readonly nextAttempt: number | null;
  /** How many bytes were published and not yet handed to the network. */
  readonly buffered: number;

  /**
   * Publishes a text to all subscribers, this one included.
   *
   * @returns Whether it was sent: not if the channel is not open, nor if more than `maxBuffered`
   *   bytes wait already. Nothing is queued.
   */
  publish(text: string): boolean;

  /**
   * Publishes a text by POST, in any state of the channel.
   *
   * @returns To how many subscribers it was handed; with a backplane, to how many servers.
   * @throws PostError
   */
  post(text: string, options?: { signal?: AbortSignal }): Promise<number>;

  /** Opens another connection now, whatever there is, offline or not. Does nothing once closed. */
  reconnect(): void;

  /**
   * Closes the channel for good. No timer and no listener of its own is left.
   *
   * @param code 1000, or from 3000 to 4999.
   * @param reason At most 123 bytes.
   * @throws RangeError for other codes and reasons. Nothing has changed then.
   */
  close(code?: number, reason?: string): void;

  addEventListener<K extends keyof ChannelEvents>(
    type: K,
    listener: ((event: ChannelEvents[K]) => void) | null,
    options?: Adding[2],
  ): void;
  addEventListener(type: string, listener: Adding[1], options?: Adding[2]): void;

  removeEventListener<K extends keyof ChannelEvents>(
    type: K,
    listener: ((event: ChannelEvents[K]) => void) | null,
    options?: Removing[2],
  ): void;
  removeEventListener(type: string, listener: Removing[1], options?: Removing[2]): void;
}

// As browsers have them, or Node: their names for these types differ.
type Adding = Parameters<EventTarget["addEventListener"]>;
type Removing = Parameters<EventTarget["removeEventListener"]>;

export {}; // Without it, these two would be exported as well.

/** What `post` rejects with: the server's one line is its message. */
export interface PostError extends Error {
  /** 0: there was no answer that this page may read. The message may have been published then. */
  readonly status: number;
}
