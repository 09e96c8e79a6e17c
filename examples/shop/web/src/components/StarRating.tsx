import React from "react";

interface Props {
  stars: number;
  onPick?: (stars: number) => void;
}

// One to five stars; to be picked when somebody wants to know.
export class StarRating extends React.Component<Props> {
  static propTypes = {
    stars: React.PropTypes.number.isRequired,
    onPick: React.PropTypes.func,
  };

  pick(stars: number) {
    if (this.props.onPick) {
      this.props.onPick(stars);
    }
  }

  render() {
    var all = [1, 2, 3, 4, 5];
    return (
      <span role="img" aria-label={`${this.props.stars} of 5 stars`}>
        {all.map((one) => (
          <button key={one} type="button" onClick={() => this.pick(one)}>
            {one <= this.props.stars ? "★" : "☆"}
          </button>
        ))}
      </span>
    );
  }
}
