import React from "react";
import type { Order } from "../types";

const STATES = ["open", "paid", "sent", "delivered"];

interface Props {
  state: Order["state"];
}

// Where an order is on its way.
export class OrderTimeline extends React.Component<Props> {
  static propTypes = {
    state: React.PropTypes.oneOf([...STATES, "cancelled"]).isRequired,
  };

  render() {
    if (this.props.state === "cancelled") {
      return <p>This order was cancelled.</p>;
    }
    var reached = STATES.indexOf(this.props.state);
    return (
      <ol className="timeline">
        {STATES.map((state, number) => (
          <li key={state} aria-current={number === reached ? "step" : undefined}>
            {state}
          </li>
        ))}
      </ol>
    );
  }
}
